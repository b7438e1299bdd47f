// Tiles pieces[i] to pieces[i + 1] have the ranges of token i. A workgroup has one query head of a token.
@compute @workgroup_size(D)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) d: u32) {
  var peak = LOWEST;
  var total = 0.0;
  var found = 0.0;
  for (var i = u32(pieces[group.x]); i < u32(pieces[group.x + 1u]); i += 1u) {
    let first = (i * Q_HEADS + group.y) * (D + 2u);
    let highest = max(peak, ranges[first + D]);
    let old = exp2(peak - highest);
    let fresh = exp2(ranges[first + D] - highest);
    peak = highest;
    total = fma(total, old, ranges[first + D + 1u] * fresh);
    found = fma(found, old, ranges[first + d] * fresh);
  }
  y[(group.x * Q_HEADS + group.y) * D + d] = $result;
}
