// Few tokens by blocks of 16 rows: each thread has two rows of a block and one of 32 ranges of columns, whose sums are added in
// order. With gates a workgroup has a block of them, and the block of what they let through.
var<workgroup> parts: array<f32, 512 * TOKENS>;

// Of a token's row, i = 16 token + row.
fn total_of(i: u32) -> f32 {
  var total = 0.0;
  for (var range = 0u; range < 32u; range += 1u) {
    total += parts[(i / 16u * 32u + range) * 16u + i % 16u];
  }
  return total;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = thread % 8u;
  let range = thread / 8u;
  let token = group.y * TOKENS;
  let is_there = thread < 16u * TOKENS && token + thread / 16u < numbers.n;
  let to = (token + thread / 16u) * WIDTH + (FIRST + group.x) * 16u + thread % 16u;
  $declared
  for (var g = range * LENGTH; g < min((range + 1u) * LENGTH, GROUPS); g += 1u) {
    let column = g * QUADS;
    $product
  }
  $stored
}
