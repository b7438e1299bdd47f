@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = group.x * 256u + thread;
  if (i < K) {
    let first = group.y * 2u * K;
    y[group.y * K + i] = $gate(x[first + i]) * x[first + K + i];
  }
}
