// Where keys and values lie in a page of a layer, in words: keys, values, then scales; in each what belongs to a head, token
// behind token. A scale's word has the key's in its lower half, the value's in its upper one.
fn key_word(head: u32, slot: u32) -> u32 {
  return slot / numbers.page_size * numbers.page_words + (head * numbers.page_size + slot % numbers.page_size) * WORDS;
}

fn value_skip() -> u32 {
  return HEADS * numbers.page_size * WORDS;
}

fn scale_word(head: u32, slot: u32) -> u32 {
  let scales = 2u * HEADS * numbers.page_size * WORDS + head * numbers.page_size;
  return slot / numbers.page_size * numbers.page_words + scales + slot % numbers.page_size;
}
