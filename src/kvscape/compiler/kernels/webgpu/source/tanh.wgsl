// The built-in one may overflow.
fn hyperbolic_tangent(x: f32) -> f32 {
  return 1.0 - 2.0 / (exp2(2.885390081777927 * min(x, 40.0)) + 1.0);
}
