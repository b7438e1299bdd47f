// Rotary positions, and the step's keys and values written to their pages. A workgroup has a token's query head, or a key head
// with its value; a thread a dimension.
fn turned(x: u32, place: u32, d: u32, sink: bool) -> f32 {
  let first = place * ROTARY;
  let half = ROTARY / 2u;
  if (d >= ROTARY) {
    return qkv[x + d];
  }
  let pair = d % half;
  let cosine = select(table[first + pair], sink_table[first + pair], sink);
  let sine = select(table[first + half + pair], sink_table[first + half + pair], sink);
  if (d < half) {
    return fma(qkv[x + d], cosine, -(qkv[x + d + half] * sine));
  }
  return fma(qkv[x + d - half], sine, qkv[x + d] * cosine);
}

@compute @workgroup_size(D)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) d: u32) {
  let heads = Q_HEADS + 2u * HEADS;
  let x = (group.x * heads + group.y) * D;
  if (group.y < Q_HEADS) {
    let to = (group.x * Q_HEADS + group.y) * D + d;
    q[to] = $query;
    sink_q[to] = $sink_query;
    return;
  }
  let head = group.y - Q_HEADS;
  let place = place_of(head, u32(slots[group.x]));
  $kept
}
