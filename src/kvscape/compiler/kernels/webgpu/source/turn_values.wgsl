// Rows of values that are multiplied by a Hadamard matrix, multiplied by it again. A workgroup has one query head of a token.
@compute @workgroup_size(D)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) d: u32) {
  let i = (group.x * Q_HEADS + group.y) * D + d;
  y[i] = hadamard(y[i], d);
}
