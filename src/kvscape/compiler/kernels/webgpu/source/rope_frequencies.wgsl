@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
  for (var i = thread; i < HALF; i += 64u) {
    frequency[i] = select(few[i], many[i], seen[0] > i32(LENGTH));
  }
}
