// A workgroup has a row of V: the log-probability of one token.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * V;
  var peak = logits[first];
  for (var i = thread; i < V; i += 256u) {
    peak = max(peak, logits[first + i]);
  }
  sums[thread] = peak;
  for (var width = 128u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (thread < width) {
      sums[thread] = max(sums[thread], sums[thread + width]);
    }
  }
  workgroupBarrier();
  peak = sums[0];
  workgroupBarrier();
  var weight = 0.0;
  for (var i = thread; i < V; i += 256u) {
    weight += exp2(1.4426950408889634 * (logits[first + i] - peak));
  }
  let total = sum_of_group(weight, thread);
  if (thread == 0u) {
    y[group.x] = logits[first + u32(ids[group.x])] - peak - log(total);
  }
}
