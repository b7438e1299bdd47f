// Log-probabilities of a token and of the likeliest ones of its row: the token's, then tokens, then theirs. A workgroup has a
// row. Each thread knows the best of its own tokens; when that is taken, all look for its next one.
const LEAST = -3.4028234e38;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let start = u32(asked[group.x].x) * V;
  let own = u32(asked[group.x].y);
  var best = LEAST;
  var best_place = V;
  for (var i = thread; i < V; i += 256u) {
    let value = logits[start + i];
    if (value > best || best_place == V) {
      best = value;
      best_place = i;
    }
  }
  largest(best, best_place, thread);
  workgroupBarrier();
  let peak = peaks[0];
  var weight = 0.0;
  for (var i = thread; i < V; i += 256u) {
    weight += exp2(1.4426950408889634 * (logits[start + i] - peak));
  }
  let rest = log(sum_of_group(weight, thread));
  let to = group.x * numbers.width;
  let number = numbers.width / 2u;
  if (thread == 0u) {
    y[to] = bitcast<i32>(logits[start + own] - peak - rest);
  }
  for (var k = 0u; k < number; k++) {
    let value = peaks[0];
    let place = places[0];
    if (thread == 0u) {
      y[to + 1u + k] = i32(place);
      y[to + 1u + number + k] = bitcast<i32>(value - peak - rest);
    }
    workgroupBarrier();
    let owner = place % 256u;
    var next = LEAST;
    var next_place = V;
    for (var i = owner + 256u * thread; i < V; i += 65536u) {
      let other = logits[start + i];
      if ((other < value || (other == value && i > place)) && (other > next || next_place == V)) {
        next = other;
        next_place = i;
      }
    }
    largest(next, next_place, thread);
    workgroupBarrier();
    if (thread == owner) {
      best = peaks[0];
      best_place = places[0];
    }
    workgroupBarrier();
    largest(best, best_place, thread);
    workgroupBarrier();
  }
}
