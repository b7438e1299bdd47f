// What the words of a packed weight stand for (layouts/words.py); place is block x groups + group.

// The number at step j of a word: of codes 1 + code / 2^BITS, so that no integer is converted.
fn number(word: u32, j: u32) -> f32 {
  $number
}

// The place's number times the first, plus the second, is the weight.
fn constants(place: u32, row: u32) -> vec2<f32> {
  $constants
}
