// A Hadamard matrix of unit length times the numbers that D threads have, TURNED at a time.
var<workgroup> row: array<f32, D>;

fn hadamard(value: f32, d: u32) -> f32 {
  var result = value;
  for (var width = 1u; width < TURNED; width *= 2u) {
    workgroupBarrier();
    row[d] = result;
    workgroupBarrier();
    result = select(result + row[(d + width) % D], row[(d + D - width) % D] - result, (d & width) != 0u);
  }
  return result * LENGTH;
}
