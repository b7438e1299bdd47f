// Keys of the group that a query belongs to, as they were before it is rounded; of other groups the constants of each
// dimension, of four groups.
const KEY_GROUP = 16u;
var<workgroup> steps: array<vec4<u32>, D>;

fn scaled(codes: vec4<f32>, at: u32) -> vec4<f32> {
  let found = steps[at];
  let x = unpack2x16float(found.x);
  let y = unpack2x16float(found.y);
  let z = unpack2x16float(found.z);
  let w = unpack2x16float(found.w);
  return fma(codes, vec4(x.x, y.x, z.x, w.x), vec4(x.y, y.y, z.y, w.y));
}

fn own_product(start: u32, place: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < D / 4u; i += 1u) {
    let v = q[start + i];
    let k = own[place + i];
    sum = $own_chain;
  }
  return sum;
}

fn own_sink_product(start: u32, place: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < D / 4u; i += 1u) {
    let v = sink_q[start + i];
    let k = own[place + i];
    sum = $own_chain;
  }
  return sum;
}
