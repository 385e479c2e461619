//! Fused operations for training on the processor: each is one node of candle's graph with its own gradient.
//!
//! candle's differentiable norms, softmax and rotary embedding are chains of five to ten broadcasts, each with
//! a gradient of its own; on small models that bookkeeping costs more than the matrix products. These
//! operations touch each number once forward and once backward. They work on contiguous `f32` and know
//! nothing of models: [`super::model`] puts them together.
//!
//! Sequences of different lengths travel *packed*, as rows of one matrix, so that no product is spent on
//! padding. Only attention needs a rectangle: [`Split`] spreads packed rows to (sequence, head, position,
//! channel), rotating queries and keys on the way, and [`Merge`] is its transpose, hence its gradient.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// The numbers of a contiguous `f32` argument.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a training operation expects contiguous numbers, found strides {:?}", layout.stride()),
    }
}

/// Length of the last dimension, never zero.
fn width(layout: &Layout) -> Result<usize> {
    match layout.dims().last() {
        Some(&n) if n > 0 => Ok(n),
        _ => bail!("a training operation expects rows, found shape {:?}", layout.dims()),
    }
}

/// `e^x` to about two units in the last place, written so that the compiler can use vector registers.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to a whole number
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4; // ln 2 in two parts
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let bits = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(bits)
}

/// Root mean square norm of each row, times a learnt weight: (rows, d), (d) → (rows, d).
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        let squares: f32 = row.iter().map(|v| v * v).sum();
        1.0 / (squares / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (d, rows, weight) = (width(lx)?, numbers(x, lx)?, numbers(w, lw)?);
        let mut out = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(d) {
            let scale = self.scale(row);
            out.extend(row.iter().zip(weight).map(|(v, w)| v * scale * w));
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let dx = x.apply_op3_no_bwd(w, &grad, &RmsNormInput(RmsNorm { eps: self.eps }))?;
        let dw = x.apply_op2_no_bwd(&grad, &RmsNormWeight(RmsNorm { eps: self.eps }))?;
        Ok((Some(dx), Some(dw)))
    }
}

/// Gradient of [`RmsNorm`] for its input.
struct RmsNormInput(RmsNorm);

impl CustomOp3 for RmsNormInput {
    fn name(&self) -> &'static str {
        "rms-norm-input"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (d, rows, weight, grads) = (width(lx)?, numbers(x, lx)?, numbers(w, lw)?, numbers(g, lg)?);
        let mut out = Vec::with_capacity(rows.len());
        for (row, grad) in rows.chunks_exact(d).zip(grads.chunks_exact(d)) {
            let scale = self.0.scale(row);
            let dot: f32 = row.iter().zip(grad).zip(weight).map(|((v, g), w)| v * g * w).sum();
            let pull = dot * scale * scale * scale / d as f32;
            out.extend(row.iter().zip(grad).zip(weight).map(|((v, g), w)| g * w * scale - v * pull));
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }
}

/// Gradient of [`RmsNorm`] for its weight.
struct RmsNormWeight(RmsNorm);

impl CustomOp2 for RmsNormWeight {
    fn name(&self) -> &'static str {
        "rms-norm-weight"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (d, rows, grads) = (width(lx)?, numbers(x, lx)?, numbers(g, lg)?);
        let mut out = vec![0.0; d];
        for (row, grad) in rows.chunks_exact(d).zip(grads.chunks_exact(d)) {
            let scale = self.0.scale(row);
            for ((o, v), g) in out.iter_mut().zip(row).zip(grad) {
                *o += v * g * scale;
            }
        }
        Ok((CpuStorage::F32(out), Shape::from(d)))
    }
}

/// How packed rows map to the attention rectangle.
pub(super) struct Spread {
    /// Length of each sequence, in the order of the packed rows.
    pub(super) lengths: Arc<Vec<usize>>,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    /// Cosines and sines, (position, head_dim / 2) each: rotate on the way out, back on the way in.
    pub(super) rotation: Option<Arc<Rotation>>,
}

/// Rotary position table, Hugging Face's half-split convention.
pub(super) struct Rotation {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    pub(super) fn new(positions: usize, head_dim: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angle = |i: usize| (i / half) as f64 * theta.powf(-2.0 * (i % half) as f64 / head_dim as f64);
        let cos = (0..positions * half).map(|i| angle(i).cos() as f32).collect();
        let sin = (0..positions * half).map(|i| angle(i).sin() as f32).collect();
        Self { half, cos, sin }
    }

    /// Rotates one head's channels by `position`, or back.
    fn turn(&self, position: usize, back: bool, from: &[f32], to: &mut [f32]) {
        let at = position * self.half;
        let (cos, sin) = (&self.cos[at..at + self.half], &self.sin[at..at + self.half]);
        let sign = if back { -1.0 } else { 1.0 };
        let ((a, b), (x, y)) = (from.split_at(self.half), to.split_at_mut(self.half));
        for i in 0..self.half {
            x[i] = a[i] * cos[i] - b[i] * sin[i] * sign;
            y[i] = b[i] * cos[i] + a[i] * sin[i] * sign;
        }
    }
}

impl Spread {
    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
    fn packed(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Calls `with(packed offset, rectangle offset, position)` for each head of each token.
    fn each(&self, mut with: impl FnMut(usize, usize, usize)) {
        let (longest, width) = (self.longest(), self.heads * self.head_dim);
        let mut row = 0;
        for (sequence, &length) in self.lengths.iter().enumerate() {
            for position in 0..length {
                for head in 0..self.heads {
                    let cell = ((sequence * self.heads + head) * longest + position) * self.head_dim;
                    with(row * width + head * self.head_dim, cell, position);
                }
                row += 1;
            }
        }
    }
}

/// Packed rows → rectangle: (rows, heads · head_dim) → (sequences, heads, longest, head_dim), zeros beyond a
/// sequence's end.
pub(super) struct Split(pub(super) Arc<Spread>);

/// Rectangle → packed rows, the transpose of [`Split`].
pub(super) struct Merge(pub(super) Arc<Spread>);

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "split-heads"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (s, from) = (&self.0, numbers(x, lx)?);
        let (d, longest) = (s.head_dim, s.longest());
        if from.len() != s.packed() * s.heads * d {
            bail!("split expects {} rows of {} heads, found shape {:?}", s.packed(), s.heads, lx.dims());
        }
        let mut out = vec![0.0; s.lengths.len() * s.heads * longest * d];
        s.each(|packed, cell, position| {
            let (from, to) = (&from[packed..packed + d], &mut out[cell..cell + d]);
            match &s.rotation {
                Some(rotation) => rotation.turn(position, false, from, to),
                None => to.copy_from_slice(from),
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((s.lengths.len(), s.heads, longest, d))))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Merge(self.0.clone()))?))
    }
}

impl CustomOp1 for Merge {
    fn name(&self) -> &'static str {
        "merge-heads"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (s, from) = (&self.0, numbers(x, lx)?);
        let (d, rows) = (s.head_dim, s.packed());
        if from.len() != s.lengths.len() * s.heads * s.longest() * d {
            bail!("merge expects {} sequences of {} heads, found {:?}", s.lengths.len(), s.heads, lx.dims());
        }
        let mut out = vec![0.0; rows * s.heads * d];
        s.each(|packed, cell, position| {
            let (from, to) = (&from[cell..cell + d], &mut out[packed..packed + d]);
            match &s.rotation {
                Some(rotation) => rotation.turn(position, true, from, to),
                None => to.copy_from_slice(from),
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, s.heads * d))))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Split(self.0.clone()))?))
    }
}

/// Scaled softmax of each row over its own and earlier positions: (…, T, T) → (…, T, T).
pub(super) struct CausalSoftmax {
    pub(super) scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (t, scores) = (width(lx)?, numbers(x, lx)?);
        let mut out = vec![0.0; scores.len()];
        for (i, (row, out)) in scores.chunks_exact(t).zip(out.chunks_exact_mut(t)).enumerate() {
            let seen = i % t + 1;
            let (row, out) = (&row[..seen], &mut out[..seen]);
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (o, v) in out.iter_mut().zip(row) {
                *o = exp((v - top) * self.scale);
            }
            let share = 1.0 / out.iter().sum::<f32>();
            out.iter_mut().for_each(|o| *o *= share);
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }
    fn bwd(&self, _: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        Ok(Some(result.apply_op2_no_bwd(&grad, &CausalSoftmaxInput { scale: self.scale })?))
    }
}

/// Gradient of [`CausalSoftmax`], from its result.
struct CausalSoftmaxInput {
    scale: f32,
}

impl CustomOp2 for CausalSoftmaxInput {
    fn name(&self) -> &'static str {
        "causal-softmax-input"
    }
    fn cpu_fwd(
        &self,
        p: &CpuStorage,
        lp: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (t, shares, grads) = (width(lp)?, numbers(p, lp)?, numbers(g, lg)?);
        let mut out = vec![0.0; shares.len()];
        let rows = shares.chunks_exact(t).zip(grads.chunks_exact(t)).zip(out.chunks_exact_mut(t));
        for (i, ((share, grad), out)) in rows.enumerate() {
            let seen = i % t + 1;
            let (share, grad) = (&share[..seen], &grad[..seen]);
            let mean: f32 = share.iter().zip(grad).map(|(p, g)| p * g).sum();
            for ((o, p), g) in out[..seen].iter_mut().zip(share).zip(grad) {
                *o = p * (g - mean) * self.scale;
            }
        }
        Ok((CpuStorage::F32(out), lp.shape().clone()))
    }
}

/// `silu(gate) · up`, element by element.
pub(super) struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }
    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        lg: &Layout,
        u: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (numbers(g, lg)?, numbers(u, lu)?);
        let out = gate.iter().zip(up).map(|(g, u)| g * u / (1.0 + exp(-g))).collect();
        Ok((CpuStorage::F32(out), lg.shape().clone()))
    }
    fn bwd(
        &self,
        g: &Tensor,
        u: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let both = g.apply_op3_no_bwd(u, &grad.contiguous()?, &SwiGluInputs)?;
        Ok((Some(both.get(0)?), Some(both.get(1)?)))
    }
}

/// Gradients of [`SwiGlu`]: (2, …), for the gate and for the other factor.
struct SwiGluInputs;

impl CustomOp3 for SwiGluInputs {
    fn name(&self) -> &'static str {
        "swiglu-inputs"
    }
    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        lg: &Layout,
        u: &CpuStorage,
        lu: &Layout,
        r: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up, grad) = (numbers(g, lg)?, numbers(u, lu)?, numbers(r, lr)?);
        let mut out = vec![0.0; 2 * gate.len()];
        let (to_gate, to_up) = out.split_at_mut(gate.len());
        let inputs = gate.iter().zip(up).zip(grad);
        for (((g, u), r), (dg, du)) in inputs.zip(to_gate.iter_mut().zip(to_up)) {
            let open = 1.0 / (1.0 + exp(-g));
            *dg = r * u * open * (1.0 + g * (1.0 - open));
            *du = r * g * open;
        }
        let mut dims = vec![2];
        dims.extend_from_slice(lg.dims());
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

/// Sum over rows of −ln softmax(row)\[target\]: (rows, vocabulary) → scalar.
pub(super) struct CrossEntropy(pub(super) Arc<Vec<u32>>);

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (vocab, logits) = (width(lx)?, numbers(x, lx)?);
        let mut sum = 0.0f64;
        for (row, &target) in logits.chunks_exact(vocab).zip(self.0.iter()) {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mass: f32 = row.iter().map(|v| exp(v - top)).sum();
            sum += f64::from(mass.ln() + top - row[target as usize]);
        }
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }
    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = CrossEntropyInput { targets: self.0.clone(), weight: grad.to_scalar::<f32>()? };
        Ok(Some(logits.apply_op1_no_bwd(&op)?))
    }
}

/// Gradient of [`CrossEntropy`].
struct CrossEntropyInput {
    targets: Arc<Vec<u32>>,
    weight: f32,
}

impl CustomOp1 for CrossEntropyInput {
    fn name(&self) -> &'static str {
        "cross-entropy-input"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (vocab, logits) = (width(lx)?, numbers(x, lx)?);
        let mut out = vec![0.0; logits.len()];
        let rows = logits.chunks_exact(vocab).zip(out.chunks_exact_mut(vocab));
        for ((row, out), &target) in rows.zip(self.targets.iter()) {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            out.iter_mut().zip(row).for_each(|(o, v)| *o = exp(v - top));
            let share = self.weight / out.iter().sum::<f32>();
            out.iter_mut().for_each(|o| *o *= share);
            out[target as usize] -= self.weight;
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn the_fast_exponential_is_close_and_never_infinite() {
        for i in -80_000..80_000 {
            let x = i as f32 * 1e-3;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 4e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NEG_INFINITY) > 0.0);
    }
}
