// Rotary positions, and the step's keys and values written to their pages. A workgroup has a token's query head, or a key head
// with its value; a thread a dimension.
var<workgroup> row: array<f32, D>;

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

// A Hadamard matrix of unit length times the row, TURNED numbers at a time.
fn hadamard(value: f32, d: u32) -> f32 {
  var result = value;
  for (var width = 1u; width < TURNED; width *= 2u) {
    workgroupBarrier();
    row[d] = result;
    workgroupBarrier();
    result = select(result + row[(d + width) % D], row[(d + D - width) % D] - result, (d & width) != 0u);
  }
  return result * inverseSqrt(f32(TURNED));
}

// What is rounded to f16 is kept within its range.
fn halves(a: f32, b: f32) -> u32 {
  return pack2x16float(clamp(vec2(a, b), vec2(-65504.0), vec2(65504.0)));
}

// Write the thread's number to the row's words from `first` on; return the scale, f16.
fn keep(value: f32, first: u32, d: u32) -> f32 {
  $keep
}

@compute @workgroup_size(D)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) d: u32) {
  let heads = Q_HEADS + 2u * HEADS;
  let x = (group.x * heads + group.y) * D;
  if (group.y < Q_HEADS) {
    let to = (group.x * Q_HEADS + group.y) * D + d;
    q[to] = hadamard(turned(x, group.x, d, false), d);
    sink_q[to] = hadamard(turned(x, group.x, d, true), d);
    return;
  }
  let head = group.y - Q_HEADS;
  let slot = u32(slots[group.x]);
  let key = key_word(head, slot);
  let key_scale = keep(hadamard(turned(x, group.x, d, false), d), key, d);
  let value_scale = keep(qkv[x + HEADS * D + d], key + value_skip(), d);
  if (SCALED == 1u && d == 0u) {
    pool[scale_word(head, slot)] = halves(key_scale, value_scale);
  }
}
