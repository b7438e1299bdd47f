// A workgroup has a row of V; among equals the first is taken.
var<workgroup> peaks: array<f32, 256>;
var<workgroup> places: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * V;
  var peak = logits[first + min(thread, V - 1u)];
  var place = thread;
  for (var i = thread + 256u; i < V; i += 256u) {
    let value = logits[first + i];
    if (value > peak) {
      peak = value;
      place = i;
    }
  }
  peaks[thread] = peak;
  places[thread] = place;
  for (var width = 128u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (thread < width) {
      let other = peaks[thread + width];
      if (other > peaks[thread] || (other == peaks[thread] && places[thread + width] < places[thread])) {
        peaks[thread] = other;
        places[thread] = places[thread + width];
      }
    }
  }
  if (thread == 0u) {
    y[group.x] = i32(min(places[0], V - 1u));
  }
}
