// Many tokens: 16 row quads times ROW_QUADS by 16 token quads times TOKEN_QUADS a workgroup. Half a group of columns at a time
// lies in shared memory. Sums are made and added in the order of matvec.wgsl.
const STEP = QUADS * 2u;
const ROW_STEP = 16u * ROW_QUADS;
const TOKEN_STEP = 16u * TOKEN_QUADS;
var<workgroup> weights: array<vec4<f32>, STEP * ROW_STEP>;
var<workgroup> inputs: array<vec4<f32>, STEP * TOKEN_STEP>;

fn weight(row: u32, group: u32, column: u32) -> f32 {
  let block = min(row / 16u, BLOCKS - 1u);
  let place = block * GROUPS + group;
  let inside = column % (QUADS * 4u / LOADS);
  let word = codes[((place * LOADS + column / (QUADS * 4u / LOADS)) * 16u + row % 16u) * 4u + inside % 4u];
  let scale = constants(FIRST * GROUPS + place, row % 16u);
  return fma(number(word, inside / 4u), scale.x, scale.y);
}

fn input(token: u32, column: u32) -> f32 {
  return select(0.0, x[min(token, numbers.n - 1u) * K + min(column, K - 1u)], column < K);
}

fn store(row: u32, token: u32, value: f32) {
  if (row < BLOCKS * 16u && token < numbers.n) {
    y[token * N + FIRST * 16u + row] = value;
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = group.x * ROW_STEP * 4u;
  let first_token = group.y * TOKEN_STEP * 4u;
  let across = thread % 16u;
  let down = thread / 16u;
  $declared
  for (var g = 0u; g < GROUPS; g += 1u) {
    for (var half = 0u; half < 2u; half += 1u) {
      workgroupBarrier();
      for (var i = thread; i < STEP * ROW_STEP; i += 256u) {
        let column = half * STEP + i / ROW_STEP;
        let row = first_row + i % ROW_STEP * 4u;
        weights[i] = vec4(weight(row, g, column), weight(row + 1u, g, column), weight(row + 2u, g, column), weight(row + 3u, g, column));
      }
      for (var i = thread; i < STEP * TOKEN_STEP; i += 256u) {
        let column = g * QUADS * 4u + half * STEP + i % STEP;
        let token = first_token + i / STEP * 4u;
        inputs[i % STEP * TOKEN_STEP + i / STEP] = vec4(input(token, column), input(token + 1u, column), input(token + 2u, column), input(token + 3u, column));
      }
      workgroupBarrier();
      for (var k = 0u; k < STEP; k += 1u) {
        $product
      }
    }
    if ((g + 1u) % LENGTH == 0u || g + 1u == GROUPS) {
      $joined
    }
  }
  $stored
}
