// What gates let through is multiplied by these.
fn swiglu(x: f32) -> f32 {
  return x / (1.0 + exp2(-1.4426950408889634 * max(x, -80.0)));
}

fn geglu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + hyperbolic_tangent(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = group.x * 256u + thread;
  if (i < K) {
    let first = group.y * 2u * K;
    y[group.y * K + i] = $gate(x[first + i]) * x[first + K + i];
  }
}
