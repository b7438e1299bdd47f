@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let column = group.x * 256u + thread;
  if (column < K) {
    let i = group.y * K + column;
    y[i] = $value;
  }
}
