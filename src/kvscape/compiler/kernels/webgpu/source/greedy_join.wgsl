@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let piece = found[group.x * PIECES + min(thread, PIECES - 1u)];
  largest(bitcast<f32>(piece.x), piece.y, thread);
  if (thread == 0u) {
    y[group.x] = i32(places[0]);
  }
}
