// A workgroup has a row of K, four columns at a time, which stay in registers.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * (K / 4u);
  var squares = 0.0;
  $loaded
  let factor = inverseSqrt(sum_of_group(squares, thread) / f32(K) + EPS);
  $stored
}
