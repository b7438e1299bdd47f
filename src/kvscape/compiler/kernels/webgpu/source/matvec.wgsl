// Few tokens by one block of 16 rows: each thread has two rows and one of 32 ranges of columns, whose sums are added in order.
var<workgroup> parts: array<f32, 512 * TOKENS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = thread % 8u;
  let range = thread / 8u;
  let token = group.y * TOKENS;
  $declared
  for (var g = range * LENGTH; g < min((range + 1u) * LENGTH, GROUPS); g += 1u) {
    let place = group.x * GROUPS + g;
    let at = place * LOADS * 16u + row;
    let column = g * QUADS;
    $product
  }
  $stored
  workgroupBarrier();
  for (var i = thread; i < 16u * TOKENS; i += 256u) {
    var total = 0.0;
    for (var r = 0u; r < 32u; r += 1u) {
      total += parts[(i / 16u * 32u + r) * 16u + i % 16u];
    }
    if (token + i / 16u < numbers.n) {
      y[(token + i / 16u) * N + (FIRST + group.x) * 16u + i % 16u] = total;
    }
  }
}
