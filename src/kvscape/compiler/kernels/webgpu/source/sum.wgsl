// The sum of what the threads of a workgroup have, in an order of its own; the same for all of them.
var<workgroup> sums: array<f32, 256>;

fn sum_of_group(value: f32, thread: u32) -> f32 {
  sums[thread] = value;
  for (var width = 128u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (thread < width) {
      sums[thread] += sums[thread + width];
    }
  }
  workgroupBarrier();
  return sums[0];
}
