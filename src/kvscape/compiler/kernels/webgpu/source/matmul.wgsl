// Many tokens: 64 rows by 64 tokens a workgroup, 4 by 4 a thread; half a group of columns at a time lies in shared memory.
// Sums are made and added in the order of matvec.wgsl.
const STEP = QUADS * 2u;
var<workgroup> weights: array<vec4<f32>, STEP * 16u>;
var<workgroup> inputs: array<vec4<f32>, STEP * 16u>;

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

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = group.x * 64u;
  let first_token = group.y * 64u;
  let across = thread % 16u;
  let down = thread / 16u;
  var sums: array<vec4<f32>, 4>;
  var totals: array<vec4<f32>, 4>;
  for (var g = 0u; g < GROUPS; g += 1u) {
    for (var half = 0u; half < 2u; half += 1u) {
      workgroupBarrier();
      for (var i = thread; i < STEP * 16u; i += 256u) {
        let column = half * STEP + i / 16u;
        let row = first_row + i % 16u * 4u;
        weights[i] = vec4(weight(row, g, column), weight(row + 1u, g, column), weight(row + 2u, g, column), weight(row + 3u, g, column));
      }
      for (var i = thread; i < STEP * 16u; i += 256u) {
        let column = g * QUADS * 4u + half * STEP + i % STEP;
        let token = first_token + i / STEP * 4u;
        inputs[i % STEP * 16u + i / STEP] = vec4(input(token, column), input(token + 1u, column), input(token + 2u, column), input(token + 3u, column));
      }
      workgroupBarrier();
      for (var k = 0u; k < STEP; k += 1u) {
        let w = weights[k * 16u + across];
        let v = inputs[k * 16u + down];
        sums[0] = fma(v, vec4(w.x), sums[0]);
        sums[1] = fma(v, vec4(w.y), sums[1]);
        sums[2] = fma(v, vec4(w.z), sums[2]);
        sums[3] = fma(v, vec4(w.w), sums[3]);
      }
    }
    if ((g + 1u) % LENGTH == 0u || g + 1u == GROUPS) {
      for (var i = 0u; i < 4u; i += 1u) {
        totals[i] += sums[i];
        sums[i] = vec4(0.0);
      }
    }
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let row = first_row + across * 4u + i;
    for (var j = 0u; j < 4u; j += 1u) {
      let token = first_token + down * 4u + j;
      if (row < BLOCKS * 16u && token < numbers.n) {
        y[token * N + FIRST * 16u + row] = totals[i][j];
      }
    }
  }
}
