// Keys that are rounded together, 16 tokens at a time (KIVI, arXiv 2402.02750). A workgroup has one head of a group, a thread a
// dimension. A group's codes are written when it is complete; until then its keys wait in the sequence's tail, f16, two tokens
// in a word. `own` f32 [group][head][token][dimension] gets the keys of each group that this step adds to.
const GROUP = 16u;
var<workgroup> codes: array<vec2<u32>, D>;

// Of the token's key that begins at x, number d.
fn turned(x: u32, token: u32, d: u32) -> f32 {
  let first = token * ROTARY;
  let half = ROTARY / 2u;
  if (d >= ROTARY) {
    return qkv[x + d];
  }
  if (d < half) {
    return fma(qkv[x + d], table[first + d], -(qkv[x + d + half] * table[first + half + d]));
  }
  return fma(qkv[x + d - half], table[first + d], qkv[x + d] * table[first + d - half]);
}

fn start_of(sequence: u32) -> u32 {
  return u32(positions[sequences[4u * sequence]]);
}

fn groups_of(sequence: u32) -> u32 {
  let start = start_of(sequence);
  return (start + u32(sequences[4u * sequence + 1u]) - 1u) / GROUP - start / GROUP + 1u;
}

@compute @workgroup_size(D)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) d: u32) {
  var sequence = 0u;
  while (sequence < numbers.sequences && group.x >= u32(sequences[4u * sequence + 3u]) + groups_of(sequence)) {
    sequence += 1u;
  }
  if (sequence == numbers.sequences) {
    return;
  }
  let head = group.y;
  let first_token = u32(sequences[4u * sequence]);
  let start = start_of(sequence);
  let stop = start + u32(sequences[4u * sequence + 1u]);
  let before = u32(sequences[4u * sequence + 3u]);
  let index = group.x - before;
  let last = groups_of(sequence) - 1u;
  // The first group reads the tail that the last one writes, so one workgroup has both.
  if (index > 0u && index == last) {
    return;
  }
  let tail = ((u32(sequences[4u * sequence + 2u]) * HEADS + head) * GROUP / 2u) * D + d;
  let rounds = select(1u, 2u, index == 0u && last > 0u);
  for (var turn = 0u; turn < rounds; turn += 1u) {
    let g = select(index, last, turn == 1u);
    let first = (start / GROUP + g) * GROUP;
    var x: array<f32, 16>;
    for (var t = 0u; t < GROUP; t += 1u) {
      let at = first + t;
      if (at < start) {
        x[t] = unpack2x16float(tails[tail + t / 2u * D])[t % 2u];
      } else if (at < stop) {
        let token = first_token + at - start;
        x[t] = rounded(turned((token * (Q_HEADS + 2u * HEADS) + Q_HEADS + head) * D, token, d));
      } else {
        x[t] = 0.0;
      }
      own[(((before + g) * HEADS + head) * GROUP + t) * D + d] = x[t];
    }
    if (first + GROUP > stop) {
      for (var t = 0u; t < GROUP; t += 2u) {
        tails[tail + t / 2u * D] = pack2x16float(vec2(x[t], x[t + 1u]));
      }
      continue;
    }
    var low = x[0];
    var high = x[0];
    for (var t = 1u; t < GROUP; t += 1u) {
      low = min(low, x[t]);
      high = max(high, x[t]);
    }
    let step = rounded((high - low) / 15.0);
    var mine = vec2(0u);
    for (var t = 0u; t < GROUP; t += 1u) {
      mine[t / 8u] |= int4_code(x[t], step, low) << (4u * (t % 8u));
    }
    workgroupBarrier();
    codes[d] = mine;
    workgroupBarrier();
    let scale_token = first + d / (D / GROUP);
    put(place_at(sequence, head, scale_token).z + d % (D / GROUP), pack2x16float(vec2(step, low)));
    for (var i = d; i < GROUP * (D / 8u); i += D) {
      let t = i / (D / 8u);
      let dimension = i % (D / 8u) * 8u;
      var word = 0u;
      for (var j = 0u; j < 8u; j += 1u) {
        word |= ((codes[dimension + j][t / 8u] >> (4u * (t % 8u))) & 15u) << (4u * j);
      }
      put(place_at(sequence, head, first + t).x + i % (D / 8u), word);
    }
  }
}

fn place_at(sequence: u32, head: u32, token: u32) -> vec4<u32> {
  let page = u32(tables[sequence * numbers.width + token / numbers.page_size]);
  return place_of(head, page * numbers.page_size + token % numbers.page_size);
}
