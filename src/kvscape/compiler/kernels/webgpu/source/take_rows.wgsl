@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  for (var i = thread; i < K; i += 256u) {
    y[group.x * K + i] = x[u32(rows[group.x]) * K + i];
  }
}
