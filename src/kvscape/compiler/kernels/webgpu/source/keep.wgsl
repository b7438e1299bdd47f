// How D threads, each with a number of a key or a value, write it to the words from `first` on; what they return are scale and
// minimum. quantization/kv.py is the reference.
fn put(word: u32, value: u32) {
  $put
}

// The index-th f16 number of the pool: its neighbour may be another workgroup's.
fn put_half(index: u32, value: f32) {
  $put_half
}

// What is rounded to f16 is kept within its range.
fn halves(a: f32, b: f32) -> u32 {
  return pack2x16float(clamp(vec2(a, b), vec2(-65504.0), vec2(65504.0)));
}

fn rounded(value: f32) -> f32 {
  return unpack2x16float(halves(value, 0.0)).x;
}

fn share(value: f32, d: u32) {
  workgroupBarrier();
  row[d] = value;
  workgroupBarrier();
}

fn keep_f32(value: f32, first: u32, d: u32) -> vec2<f32> {
  put(first + d, bitcast<u32>(value));
  return vec2(0.0);
}

fn keep_f16(value: f32, first: u32, d: u32) -> vec2<f32> {
  share(value, d);
  if (d < D / 2u) {
    put(first + d, halves(row[2u * d], row[2u * d + 1u]));
  }
  return vec2(0.0);
}

// The nearest e4m3 number, the even one of two, 448 at most.
fn e4m3_code(value: f32) -> u32 {
  let size = min(abs(value), 448.0);
  let bits = bitcast<u32>(size);
  let normal = ((bits + 0x7ffffu + ((bits >> 20u) & 1u)) >> 20u) - 960u;
  return select(normal, u32(round(size * 512.0)), size < 0.015625) | select(0u, 128u, value < 0.0);
}

fn keep_fp8(value: f32, first: u32, d: u32) -> vec2<f32> {
  share(value, d);
  if (d < D / 4u) {
    var word = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
      word |= e4m3_code(row[4u * d + i]) << (8u * i);
    }
    put(first + d, word);
  }
  return vec2(0.0);
}

fn keep_int8(value: f32, first: u32, d: u32) -> vec2<f32> {
  share(value, d);
  var largest = 0.0;
  for (var i = 0u; i < D; i += 1u) {
    largest = max(largest, abs(row[i]));
  }
  let step = rounded(largest / 127.0);
  if (d < D / 4u) {
    var word = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
      let ratio = select(row[4u * d + i] / step, 0.0, step == 0.0);
      word |= (u32(i32(clamp(round(ratio), -127.0, 127.0))) & 255u) << (8u * i);
    }
    put(first + d, word);
  }
  return vec2(step, 0.0);
}

fn int4_code(value: f32, step: f32, low: f32) -> u32 {
  return u32(clamp(round(select((value - low) / step, 0.0, step == 0.0)), 0.0, 15.0));
}

fn keep_int4(value: f32, first: u32, d: u32) -> vec2<f32> {
  share(value, d);
  var low = row[0];
  var high = row[0];
  for (var i = 1u; i < D; i += 1u) {
    low = min(low, row[i]);
    high = max(high, row[i]);
  }
  low = rounded(low);
  let step = rounded((high - low) / 15.0);
  if (d < D / 8u) {
    var word = 0u;
    for (var i = 0u; i < 8u; i += 1u) {
      word |= int4_code(row[8u * d + i], step, low) << (4u * i);
    }
    put(first + d, word);
  }
  return vec2(step, low);
}
