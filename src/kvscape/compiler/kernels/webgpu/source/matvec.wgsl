// Few tokens by blocks of 16 rows: each thread has two rows of a block and one of 32 ranges of columns, whose sums are added in
// order.
var<workgroup> parts: array<f32, 512 * TOKENS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = thread % 8u;
  let range = thread / 8u;
  let token = group.y * TOKENS;
  $declared
  for (var g = range * LENGTH; g < min((range + 1u) * LENGTH, GROUPS); g += 1u) {
    let column = g * QUADS;
    $product
  }
  $stored
  workgroupBarrier();
  if (thread < 16u * TOKENS && token + thread / 16u < numbers.n) {
    var total = 0.0;
    for (var i = 0u; i < 32u; i += 1u) {
      total += parts[(thread / 16u * 32u + i) * 16u + thread % 16u];
    }
    y[(token + thread / 16u) * N + (FIRST + group.x) * 16u + thread % 16u] = total;
  }
}
