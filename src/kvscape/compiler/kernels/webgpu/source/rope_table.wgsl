// Cosines, then sines, of a position times each frequency. Far past the training context an f32 angle would be off by a
// thousandth, so angles are whole numbers: 2^32 are a turn. 2^64 / (2 pi) in two words:
const TURN_HIGH = 683565275u;
const TURN_LOW = 2475754826u;

// Low and high word.
fn product(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let upper = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let lower = (a & 0xffffu) * (b >> 16u) + (upper & 0xffffu);
  return vec2(lower << 16u | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (upper >> 16u) + (lower >> 16u));
}

fn angle(position: u32, frequency: f32) -> u32 {
  let bits = bitcast<u32>(frequency);
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  let low = product(mantissa, TURN_LOW);
  let high = product(mantissa, TURN_HIGH);
  var words = vec3(low.x, low.y + high.x, high.y);
  words.z += select(0u, 1u, words.y < low.y);
  var shift = 150u - (bits >> 23u);
  for (; shift >= 32u; shift -= 32u) {
    words = vec3(words.y, words.z, 0u);
  }
  // A shift by 32 has no meaning: by 1, then by the rest.
  let fraction = (words.xy >> vec2(shift)) | ((words.yz << vec2(1u)) << vec2(31u - shift));
  return position * fraction.y + product(position, fraction.x).y;
}

// Polynomials for an eighth of a turn to both sides: built-in sines may be off by 2^-11.
fn cos_sin(angle: u32) -> vec2<f32> {
  let quarter = (angle + 0x20000000u) >> 30u;
  let x = f32(bitcast<i32>(angle - (quarter << 30u))) * 1.4629180792671596e-9;
  let s = x * x;
  let sine = x * (1.0 - s * (1.6666667e-1 - s * (8.3333333e-3 - s * (1.984127e-4 - s * 2.7557319e-6))));
  let cosine = 1.0 - s * (0.5 - s * (4.1666668e-2 - s * (1.3888889e-3 - s * 2.4801587e-5)));
  let turned = select(vec2(cosine, sine), vec2(-sine, cosine), (quarter & 1u) == 1u);
  return select(turned, -turned, (quarter & 2u) == 2u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  for (var i = thread; i < HALF; i += 64u) {
    let both = cos_sin(angle(u32(positions[group.x]), frequency[i])) * FACTOR;
    table[group.x * 2u * HALF + i] = both.x;
    table[group.x * 2u * HALF + HALF + i] = both.y;
  }
}
