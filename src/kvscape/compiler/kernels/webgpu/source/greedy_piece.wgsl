@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * LENGTH;
  let last = min(first + LENGTH, V);
  var place = min(first + thread, last - 1u);
  var peak = logits[group.y * V + place];
  for (var i = place + 256u; i < last; i += 256u) {
    let value = logits[group.y * V + i];
    if (value > peak) {
      peak = value;
      place = i;
    }
  }
  largest(peak, place, thread);
  if (thread == 0u) {
    found[group.y * PIECES + group.x] = vec2(bitcast<u32>(peaks[0]), places[0]);
  }
}
