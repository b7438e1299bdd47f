// A workgroup has a token, whose row another part of the weight may have.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = u32(ids[group.x]);
  let block = row / 16u - FIRST;  // far too large for a row before the part
  if (block >= BLOCKS) {
    return;
  }
  for (var i = thread; i < K; i += 256u) {
    let place = block * GROUPS + i / (QUADS * 4u);
    let column = i % (QUADS * 4u);
    let inside = column % (QUADS * 4u / LOADS);
    let word = codes[((place * LOADS + column / (QUADS * 4u / LOADS)) * 16u + row % 16u) * 4u + inside % 4u];
    let scale = constants(place, row % 16u);
    y[group.x * K + i] = fma(number(word, inside / 4u), scale.x, scale.y);
  }
}
