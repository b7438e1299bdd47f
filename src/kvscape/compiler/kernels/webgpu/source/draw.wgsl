// A token drawn from each of some rows of logits (engine/draws.py says how). A workgroup has one draw.
//
// Weights are integers, exp((logit - highest) / temperature) of 2^31, and their sums have 64 bits, a low and a high
// word: they are the same in any order. What top-k and top-p keep are the tokens from a place in the order of logits on;
// it is found bit by bit, most often among the likeliest few, which are gathered first, else among all.
const BINS = 256u;
const BINS_OF_ONE = 8.0;
const ALL = 0xffffffffu;

var<workgroup> parts: array<vec2<u32>, 256>;
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> gathered_bins: u32;
var<workgroup> gathered: atomic<u32>;
var<workgroup> orders: array<u32, CANDIDATES>;
var<workgroup> weights: array<u32, CANDIDATES>;
var<workgroup> chosen: u32;

var<private> start: u32;  // of the row
var<private> highest: f32;
var<private> inverse: f32;  // of the temperature
var<private> candidates: u32;  // 0: all tokens are looked at

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn reaches(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y > b.y || (a.y == b.y && a.x >= b.x);
}

fn product(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let cross = (a >> 16u) * (b & 0xffffu);
  let other = (a & 0xffffu) * (b >> 16u);
  let middle = (low >> 16u) + (cross & 0xffffu) + (other & 0xffffu);
  return vec2((middle << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (cross >> 16u) + (other >> 16u) + (middle >> 16u));
}

// a * part / 2^32, rounded down.
fn share(a: vec2<u32>, part: u32) -> vec2<u32> {
  return plus(product(a.y, part), vec2(product(a.x, part).y, 0u));
}

fn total(value: vec2<u32>, thread: u32) -> vec2<u32> {
  workgroupBarrier();
  parts[thread] = value;
  for (var width = 128u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (thread < width) {
      parts[thread] = plus(parts[thread], parts[thread + width]);
    }
  }
  workgroupBarrier();
  return parts[0];
}

// Numbers of which the larger belongs to the larger logit; 0 and -0 are equal.
fn order(x: f32) -> u32 {
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn weight(x: f32) -> u32 {
  return u32(exp((x - highest) * inverse) * 2147483648.0 + 0.5);
}

fn bin(x: f32) -> u32 {
  return u32(min((highest - x) * inverse * BINS_OF_ONE, f32(BINS - 1u)));
}

fn number_of(least: u32, thread: u32) -> u32 {
  var found = 0u;
  for (var i = thread; i < candidates; i += 256u) {
    found += u32(orders[i] >= least);
  }
  for (var i = thread + select(0u, V, candidates > 0u); i < V; i += 256u) {
    found += u32(order(logits[start + i]) >= least);
  }
  return total(vec2(found, 0u), thread).x;
}

fn weight_of(least: u32, thread: u32) -> vec2<u32> {
  var found = vec2(0u);
  for (var i = thread; i < candidates; i += 256u) {
    found = plus(found, vec2(select(0u, weights[i], orders[i] >= least), 0u));
  }
  for (var i = thread + select(0u, V, candidates > 0u); i < V; i += 256u) {
    let x = logits[start + i];
    found = plus(found, vec2(select(0u, weight(x), order(x) >= least), 0u));
  }
  return total(found, thread);
}

// Gathers the likeliest tokens, as many bins of them as there is room for.
fn gather(thread: u32) {
  atomicStore(&bins[thread], 0u);
  workgroupBarrier();
  for (var i = thread; i < V; i += 256u) {
    atomicAdd(&bins[bin(logits[start + i])], 1u);
  }
  workgroupBarrier();
  if (thread == 0u) {
    var all = atomicLoad(&bins[0]);
    var number = 0u;
    for (; number < BINS - 1u && all <= CANDIDATES; number++) {
      all += atomicLoad(&bins[number + 1u]);
    }
    gathered_bins = number;
    atomicStore(&gathered, 0u);
  }
  workgroupBarrier();
  for (var i = thread; i < V; i += 256u) {
    let x = logits[start + i];
    if (bin(x) < gathered_bins) {
      let at = atomicAdd(&gathered, 1u);
      orders[at] = order(x);
      weights[at] = weight(x);
    }
  }
  workgroupBarrier();
}

fn wanted_of(all: vec2<u32>, top_p: u32) -> vec2<u32> {
  let more = plus(share(all, top_p), vec2(1u, 0u));
  return select(more, all, reaches(more, all));
}

// The last place in the order from which on there are top_k tokens, and from which on there is top_p of their weight.
fn first_kept(top_k: u32, top_p: u32, thread: u32) -> u32 {
  var kept = 0u;
  if (top_k == 0u && top_p == ALL) {
    return kept;
  }
  var all = vec2(0u);
  if (top_k == 0u) {
    all = weight_of(0u, thread);
  }
  gather(thread);
  candidates = atomicLoad(&gathered);
  if (top_k > 0u) {
    if (candidates < top_k) {
      candidates = 0u;
    }
    for (var bit = 0x80000000u; bit > 0u; bit /= 2u) {
      if (number_of(kept | bit, thread) >= top_k) {
        kept |= bit;
      }
    }
    all = weight_of(kept, thread);
  } else if (!reaches(weight_of(0u, thread), wanted_of(all, top_p))) {
    candidates = 0u;
  }
  if (top_p == ALL) {
    return kept;
  }
  var place = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit /= 2u) {
    if (reaches(weight_of(place | bit, thread), wanted_of(all, top_p))) {
      place |= bit;
    }
  }
  return place;
}

fn kept_weight(i: u32, least: u32, lowest: f32) -> vec2<u32> {
  let x = logits[start + i];
  return vec2(select(0u, weight(x), order(x) >= least && (x - highest) * inverse >= lowest), 0u);
}

// The first token up to which those from `least` on, as likely as min_p wants, weigh more than `uniform` of all. Each
// thread has its own stretch of the row.
fn draw(least: u32, lowest: f32, uniform_part: u32, thread: u32) {
  let first = min(thread * STRETCH, V);
  let stop = min(first + STRETCH, V);
  var sum = vec2(0u);
  for (var i = first; i < stop; i++) {
    sum = plus(sum, kept_weight(i, least, lowest));
  }
  workgroupBarrier();
  parts[thread] = sum;
  workgroupBarrier();
  var all = vec2(0u);
  var up_to = vec2(0u);
  for (var i = 0u; i < 256u; i++) {
    if (i == thread) {
      up_to = all;
    }
    all = plus(all, parts[i]);
  }
  let wanted = share(all, uniform_part);
  if (reaches(wanted, up_to) && !reaches(wanted, plus(up_to, sum))) {
    for (var i = first; i < stop && reaches(wanted, up_to); i++) {
      up_to = plus(up_to, kept_weight(i, least, lowest));
      chosen = i;
    }
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let at = group.x * DRAW_INTS;
  start = u32(draws[at]) * V;
  inverse = bitcast<f32>(draws[at + 2u]);
  var place = min(thread, V - 1u);
  var peak = logits[start + place];
  for (var i = place + 256u; i < V; i += 256u) {
    let value = logits[start + i];
    if (value > peak) {
      peak = value;
      place = i;
    }
  }
  largest(peak, place, thread);
  workgroupBarrier();
  highest = peaks[0];
  if (thread == 0u) {
    chosen = places[0];  // of a row that is not numbers, too
  }
  if (inverse > 0.0) {
    let top_k = u32(draws[at + 1u]);
    let least = first_kept(select(0u, top_k, top_k < V), bitcast<u32>(draws[at + 3u]), thread);
    draw(least, bitcast<f32>(draws[at + 4u]), bitcast<u32>(draws[at + 5u]), thread);
  }
  workgroupBarrier();
  if (thread == 0u) {
    y[group.x] = i32(chosen);
  }
}
