// Many tokens: 64 rows times ROW_TILES by 64 tokens times TOKEN_TILES a workgroup; STEP times four columns of both at a time lie in shared
// memory, four in each place. Sums are made and added in the order of matvec.wgsl.
const TILE_ROWS = 64u * ROW_TILES;
const TILE_TOKENS = 64u * TOKEN_TILES;
var<workgroup> weights: array<vec4<f32>, STEP * TILE_ROWS>;
var<workgroup> inputs: array<vec4<f32>, STEP * TILE_TOKENS>;

// Four columns of a row, the quad-th of a group.
fn weight(row: u32, group: u32, quad: u32) -> vec4<f32> {
  let place = min(row / 16u, BLOCKS - 1u) * GROUPS + group;
  let words = codes[(place * LOADS + quad / (QUADS / LOADS)) * 16u + row % 16u];
  let j = quad % (QUADS / LOADS);
  let scale = constants(place, row % 16u);
  let found = vec4(number(words.x, j), number(words.y, j), number(words.z, j), number(words.w, j));
  return fma(found, vec4(scale.x), vec4(scale.y));
}

fn input(token: u32, quad: u32) -> vec4<f32> {
  let value = x[min(token, numbers.n - 1u) * (K / 4u) + min(quad, K / 4u - 1u)];
  return select(vec4(0.0), value, quad < K / 4u);
}

fn store(row: u32, token: u32, value: f32) {
  if (row < BLOCKS * 16u && token < numbers.n) {
    y[token * N + FIRST * 16u + row] = value;
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = group.x * TILE_ROWS;
  let first_token = group.y * TILE_TOKENS;
  let across = thread % 16u;
  let down = thread / 16u;
  $declared
  for (var g = 0u; g < GROUPS; g += 1u) {
    for (var first = 0u; first < QUADS; first += STEP) {
      workgroupBarrier();
      for (var i = thread; i < STEP * TILE_ROWS; i += 256u) {
        weights[i] = weight(first_row + i % TILE_ROWS, g, first + i / TILE_ROWS);
      }
      for (var i = thread; i < STEP * TILE_TOKENS; i += 256u) {
        inputs[i % STEP * TILE_TOKENS + i / STEP] = input(first_token + i / STEP, g * QUADS + first + i % STEP);
      }
      workgroupBarrier();
      for (var q = 0u; q < STEP; q += 1u) {
        $product
      }
    }
    if ((g + 1u) % LENGTH == 0u || g + 1u == GROUPS) {
      $joined
    }
  }
  $stored
}
