// A workgroup has a head of a token; values are copied.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = (group.x * (Q_HEADS + 2u * HEADS) + group.y) * D;
  var value = 0.0;
  if (thread < D) {
    value = qkv[first + thread];
  }
  let factor = inverseSqrt(sum_of_group(value * value, thread) / f32(D) + EPS);
  if (thread >= D) {
    return;
  }
  if (group.y < Q_HEADS) {
    value *= factor * q_weight[thread];
  } else if (group.y < Q_HEADS + HEADS) {
    value *= factor * k_weight[thread];
  }
  y[first + thread] = value;
}
