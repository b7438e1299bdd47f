// A workgroup has a row of K.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * K;
  var squares = 0.0;
  for (var i = thread; i < K; i += 256u) {
    squares = fma(x[first + i], x[first + i], squares);
  }
  let factor = inverseSqrt(sum_of_group(squares, thread) / f32(K) + EPS);
  for (var i = thread; i < K; i += 256u) {
    y[first + i] = x[first + i] * factor * weight[i];
  }
}
