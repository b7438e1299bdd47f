// Where keys and values lie in a page of a layer, in words: keys, values, key scales, value scales; in each what belongs to a
// head, token behind token.
//   int8   one f16 number, two tokens in a word; where both are int8, a word has the key's in its lower half, the value's in its
//          upper one
//   int4   of values a word, scale and minimum; of keys a 16th of the words of a group, one for each dimension, in order

// Of a head's key and value: the words where its codes begin, and those, or the f16 numbers, where its scales do.
fn place_of(head: u32, slot: u32) -> vec4<u32> {
  let rows = HEADS * numbers.page_size;
  let row = head * numbers.page_size + slot % numbers.page_size;
  let keys = slot / numbers.page_size * numbers.page_words;
  let values = keys + rows * KEY_WORDS;
  let scales = values + rows * VALUE_WORDS;
  return vec4(keys + row * KEY_WORDS, values + row * VALUE_WORDS, $key_scale, $value_scale);
}
