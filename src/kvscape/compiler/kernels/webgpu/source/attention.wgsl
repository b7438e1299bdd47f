// Paged causal attention with an online softmax (FlashAttention, arXiv 2205.14135).
//
// A workgroup has a tile (tokens of one sequence) and one key head; its rows are the tokens' query heads that share it. The sums
// of each range of 64 keys are made by themselves and joined in order, within a tile that has all its ranges as by
// join_ranges.wgsl: a query's numbers depend on neither tile nor batch. kernels/cpu/attention.py says what windows and sinks are.
const RANGE = 64u;
const GROUP = Q_HEADS / HEADS;
const PARTS = 256u / UNITS;
var<workgroup> scores: array<f32, ROWS * RANGE>;
var<workgroup> marks: array<f32, ROWS * 16u>;
// Of each key of a range, what place_of returns.
var<workgroup> places: array<vec4<u32>, RANGE>;

fn stored(word: u32) -> u32 {
  return pool[word / 4u][word % 4u];
}

fn half_at(index: u32) -> f32 {
  return unpack2x16float(stored(index / 2u) >> (16u * (index % 2u))).x;
}

// The exponent's bias is 127 - 7 less than f32's; subnormal numbers are eighths of 2^-6.
fn e4m3(bytes: vec4<u32>) -> vec4<f32> {
  let size = bytes & vec4(127u);
  let normal = bitcast<vec4<f32>>((size << vec4(20u)) + vec4(120u << 23u));
  let found = select(normal, vec4<f32>(size) * 0.001953125, size < vec4(8u));
  return select(found, -found, bytes > vec4(127u));
}

// Four numbers of 16 bytes.
fn four(raw: vec4<u32>, i: u32) -> vec4<f32> {
  $four
}

// Those of a word that a thread has at a place of a value.
fn numbers_of(word: u32, place: u32) -> $numbers {
  $numbers_of
}

fn key_scale(place: vec4<u32>) -> f32 {
  return $key_scale_at;
}

// Scale and minimum.
fn value_scale(place: vec4<u32>) -> vec2<f32> {
  return $value_scale_at;
}

// Of a query, or of one that meets the sinks, and a key: loads come first, for each takes as long as all of them.
fn product(start: u32, place: u32, constants: u32) -> f32 {
  var sum = 0.0;
  for (var piece = 0u; piece < PIECES; piece += UNROLLED) {
    $product
  }
  return sum;
}

fn sink_product(start: u32, place: u32, constants: u32) -> f32 {
  var sum = 0.0;
  for (var piece = 0u; piece < PIECES; piece += UNROLLED) {
    $sink_product
  }
  return sum;
}

$own

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = u32(tiles[group.x * 5u]);
  let first_token = u32(tiles[group.x * 5u + 1u]);
  let tokens = u32(tiles[group.x * 5u + 2u]);
  let head = group.y;
  let rows = tokens * GROUP;
  if (rows == 0u) {
    return;
  }
  let sinks = window[0];
  let last = positions[first_token + tokens - 1u];
  let oldest = positions[first_token] - window[1] + 1;
  let word = thread % UNITS;
  let part = thread / UNITS;
  $declared
  for (var range = $first_range; range < $last_range; range += 1u) {
    let first = range * RANGE;
    if (i32(first) >= sinks && i32(first + RANGE) <= oldest) {
      continue;
    }
    let keys = min(RANGE, u32(last) + 1u - first);
    workgroupBarrier();
    if (thread < RANGE) {
      let key = first + min(thread, keys - 1u);
      let page = u32(tables[sequence * numbers.width + key / numbers.page_size]);
      let slot = page * numbers.page_size + key % numbers.page_size;
      places[thread] = place_of(head, slot);
    }
    workgroupBarrier();
    $staged
    // Scores: a thread has a key and every fourth row.
    for (var i = 0u; i < ROWS; i += 4u) {
      let row = i + thread / RANGE;
      let key = thread % RANGE;
      if (row < ROWS) {
        var score = LOWEST;
        if (row < rows && key < keys) {
          let token = first_token + row / GROUP;
          let position = positions[token];
          let at = i32(first + key);
          if (at <= position && (at < sinks || at > position - window[1])) {
            let start = ((token * Q_HEADS) + head * GROUP + row % GROUP) * D / 4u;
            let place = places[key];
            var sum = 0.0;
            $met
            score = sum * key_scale(place) * SCALE;
            if (SOFT_CAP > 0.0) {
              score = SOFT_CAP * hyperbolic_tangent(score / SOFT_CAP);
            }
            score *= LOG2_E;
          }
        }
        scores[row * RANGE + key] = score;
      }
    }
    workgroupBarrier();
    // Weights: a thread has four keys of every 16th row.
    let lane = thread % 16u * 4u;
    for (var row = thread / 16u; row < ROWS; row += 16u) {
      let start = row * RANGE + lane;
      marks[row * 16u + thread % 16u] = max(max(scores[start], scores[start + 1u]), max(scores[start + 2u], scores[start + 3u]));
    }
    workgroupBarrier();
    $peaks
    for (var row = thread / 16u; row < ROWS; row += 16u) {
      var peak = LOWEST;
      for (var i = 0u; i < 16u; i += 1u) {
        peak = max(peak, marks[row * 16u + i]);
      }
      for (var i = row * RANGE + lane; i < row * RANGE + lane + 4u; i += 1u) {
        scores[i] = select(exp2(scores[i] - peak), 0.0, scores[i] == LOWEST);
      }
    }
    workgroupBarrier();
    for (var row = thread / 16u; row < ROWS; row += 16u) {
      let start = row * RANGE + lane;
      marks[row * 16u + thread % 16u] = (scores[start] + scores[start + 1u]) + (scores[start + 2u] + scores[start + 3u]);
    }
    workgroupBarrier();
    $totals
    // Values: a thread has a word of them and some rows.
    if (part < PARTS) {
      for (var key = 0u; key < keys; key += 8u) {  // keys that are not there weigh nothing
        $values
      }
    }
    $joined
  }
  $stored
}
