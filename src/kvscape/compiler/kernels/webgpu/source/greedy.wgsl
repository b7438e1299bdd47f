// The largest of a row's numbers and where it is; among equals the first. A workgroup has a piece of a row, or what was found of
// all its pieces.
var<workgroup> peaks: array<f32, 256>;
var<workgroup> places: array<u32, 256>;

fn largest(peak: f32, place: u32, thread: u32) {
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
}
