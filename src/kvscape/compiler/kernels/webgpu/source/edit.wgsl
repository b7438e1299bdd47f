// Copies rows of logits, edited (engine/draws.py says how). The workgroups of a column of the grid share one: each changes
// what it has copied. A row is its number, its changes from one up to another, and its mask, -1 for none.
const MOST = 3.4028234e38;
const NEVER = -3e38;  // shaders need not know infinity

fn may_come(mask: i32, i: u32) -> bool {
  return mask < 0 || ((masks[u32(max(mask, 0)) * WORDS + i / 32u] >> (i % 32u)) & 1u) == 1u;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = rows[group.x];
  let from_row = u32(row.x) * V;
  let to_row = group.x * V;
  let start = group.y * STRETCH;
  let stop = min(start + STRETCH, V);
  for (var i = start + thread; i < stop; i += 256u) {
    y[to_row + i] = select(NEVER, logits[from_row + i], may_come(row.w, i));
  }
  storageBarrier();
  for (var k = u32(row.y) + thread; k < u32(row.z); k += 256u) {
    let change = changes[k];
    let i = u32(change.x);
    if (i >= start && i < stop && may_come(row.w, i)) {
      let x = logits[from_row + i];
      let factor = bitcast<f32>(select(change.z, change.y, x > 0.0));
      y[to_row + i] = clamp(fma(x, factor, bitcast<f32>(change.w)), -MOST, MOST);
    }
  }
}
