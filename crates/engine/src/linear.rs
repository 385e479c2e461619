//! Weight matrices, plain or quantised, with or without a bias.

use crate::{LoadError, exact};
use candle_core::{
    Module, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor},
};
use std::{collections::BTreeSet, sync::Arc};

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// Blocks of 32 eight-bit integers with a scale: close to f32, almost four times smaller, faster,
    /// and the same to the bit in any batch.
    Q8_0,
    /// Blocks of 256 four-bit integers with scales for parts of them: half of `Q8_0`'s size, further
    /// from f32. What does not suit it is kept as `Q8_0`: a matrix whose rows are no multiple of 256, as
    /// llama.cpp keeps such a one at a type of smaller blocks, and the output matrix, which quantises
    /// worst, as llama.cpp's files keep it at a finer type.
    Q4K,
}

impl Precision {
    /// The name within an engine class.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }

    /// That of the matrix which makes logits of the last layer's output.
    pub(crate) fn of_head(self) -> Self {
        match self {
            Self::Q4K => Self::Q8_0,
            other => other,
        }
    }
}

/// A matrix (out, in) that is multiplied with rows, and what is added to each row of the product.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
enum Matrix {
    Dense(Tensor),
    Quantised(QMatMul),
}

impl Linear {
    /// Keeps an f32 matrix at the precision.
    pub(crate) fn new(weight: Tensor, precision: Precision) -> std::result::Result<Self, LoadError> {
        let columns = weight.dim(1)?;
        let fits = |kind: &GgmlDType| columns.is_multiple_of(kind.block_size());
        let kinds: &[GgmlDType] = match precision {
            Precision::F32 => return Ok(Self::dense(weight)),
            Precision::Q8_0 => &[GgmlDType::Q8_0],
            Precision::Q4K => &[GgmlDType::Q4K, GgmlDType::Q8_0],
        };
        match kinds.iter().copied().find(fits) {
            Some(kind) => Ok(Self::quantised(QTensor::quantize(&weight, kind)?)),
            None => Err(LoadError::Config(format!(
                "a matrix has {columns} columns; {} needs a multiple of 32, so load this model as f32",
                precision.name()
            ))),
        }
    }

    pub(crate) fn dense(weight: Tensor) -> Self {
        Self { weight: Matrix::Dense(weight), bias: None }
    }

    /// Wraps a quantised matrix without `QMatMul::from_qtensor`, which lets the environment decide
    /// whether to dequantise, and thus would let it change an engine's class.
    pub(crate) fn quantised(weight: QTensor) -> Self {
        Self { weight: Matrix::Quantised(QMatMul::QTensor(Arc::new(weight))), bias: None }
    }

    /// The same matrix with a bias (out).
    pub(crate) fn with_bias(self, bias: Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Rows (n, in) to rows (n, out).
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let product = match &self.weight {
            Matrix::Dense(weight) => rows.matmul(&weight.t()?)?,
            Matrix::Quantised(weight) => quantised_product(weight, rows)?,
        };
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    /// The matrix as it is stored.
    pub(crate) fn stored(&self) -> Result<Arc<QTensor>> {
        match &self.weight {
            Matrix::Quantised(QMatMul::QTensor(weight)) => Ok(Arc::clone(weight)),
            Matrix::Dense(weight)
            | Matrix::Quantised(QMatMul::Tensor(weight) | QMatMul::TensorF16(weight)) => {
                QTensor::quantize(weight, GgmlDType::F32).map(Arc::new)
            }
        }
    }

    /// The storage's type, by GGML's names.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.weight {
            Matrix::Quantised(QMatMul::QTensor(weight)) => kind_name(weight.dtype()),
            Matrix::Quantised(QMatMul::Tensor(_) | QMatMul::TensorF16(_)) | Matrix::Dense(_) => "f32",
        }
    }
}

/// One row of `q6_k` is computed as two: candle has a kernel of its own for one row, which adds in
/// another order than the one for several, and an answer's bits must not depend on its company.
fn quantised_product(weight: &QMatMul, rows: &Tensor) -> Result<Tensor> {
    match weight {
        QMatMul::QTensor(matrix) if matrix.dtype() == GgmlDType::Q6K && rows.dim(0)? == 1 => {
            weight.forward(&Tensor::cat(&[rows, rows], 0)?)?.narrow(0, 0, 1)
        }
        _ => weight.forward(rows),
    }
}

/// The types of matrices by GGML's names, joined with `+`: `q8_0` for most.
pub(crate) fn kinds<'a>(matrices: impl Iterator<Item = &'a Linear>) -> String {
    let kinds: BTreeSet<&str> = matrices.map(Linear::kind).collect();
    kinds.into_iter().collect::<Vec<_>>().join("+")
}

/// The engine class of a model with these matrices: the types of its weights, and the arithmetic that this
/// processor has for them. Only answers of one class can be compared.
pub(crate) fn class<'a>(matrices: impl Iterator<Item = &'a Linear>) -> String {
    let kinds: BTreeSet<&str> = matrices.map(Linear::kind).collect();
    let names = kinds.iter().copied().collect::<Vec<_>>().join("+");
    match exact::fingerprint(kinds.iter().copied()) {
        Some(arithmetic) => format!("candle-{names}-{arithmetic}"),
        None => format!("candle-{names}"),
    }
}

/// Whether all numbers of a quantised matrix are finite, given its bytes. They are integers times their
/// block's scales, so the scales tell, and nothing is dequantised for it.
pub(crate) fn has_finite_scales(kind: GgmlDType, bytes: &[u8]) -> bool {
    // Where the scales, 16-bit floats, lie in a block.
    let places: &[usize] = match kind {
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => &[0],
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q8_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
        GgmlDType::Q2K => &[80, 82],
        GgmlDType::Q3K => &[108],
        GgmlDType::Q6K => &[208],
        GgmlDType::Q8K => {
            // One of 32 bits, which a product with an integer of eight could still make infinite.
            let scale = |block: &[u8]| block.first_chunk().map(|bytes| f32::from_le_bytes(*bytes) * 128.0);
            return bytes.chunks(kind.type_size()).all(|block| scale(block).is_some_and(f32::is_finite));
        }
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => return false,
    };
    // All bits of the exponent are set in infinities and in what is no number; little endian.
    let finite = |block: &[u8], place: &usize| block.get(place + 1).is_some_and(|high| high & 0x7c != 0x7c);
    bytes.chunks(kind.type_size()).all(|block| places.iter().all(|place| finite(block, place)))
}

/// GGML's names of types, lower case.
fn kind_name(kind: GgmlDType) -> &'static str {
    match kind {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, quantized::QStorage};

    /// Every 16-bit word of a block in turn becomes NaN or an infinity as a scale: the matrix is refused if and
    /// only if candle makes a number of it that is not finite.
    #[test]
    fn scales_lie_where_candle_reads_them() {
        use GgmlDType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8K};
        let values = Tensor::rand(-1f32, 1.0, (2, 256), &Device::Cpu).unwrap();
        for kind in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, Q8K] {
            let bytes = QTensor::quantize(&values, kind).unwrap().data().unwrap().into_owned();
            assert!(has_finite_scales(kind, &bytes), "{kind:?}");
            let last = bytes.len() - kind.type_size();
            // As floats of 16 bits, or the upper half of one of 32.
            let words = if kind == Q8K { [0x7fc0u16, 0x7f80, 0xff80] } else { [0x7e00, 0x7c00, 0xfc00] };
            let mut refused = 0;
            for place in (last..bytes.len()).step_by(2) {
                for word in words {
                    let mut bytes = bytes.clone();
                    bytes[place..place + 2].copy_from_slice(&word.to_le_bytes());
                    let data = QStorage::from_data(bytes.clone().into(), &Device::Cpu, kind).unwrap();
                    let made = QTensor::new(data, (2, 256)).unwrap().dequantize(&Device::Cpu).unwrap();
                    let made = made.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    let finite = made.iter().all(|value| value.is_finite());
                    assert_eq!(
                        has_finite_scales(kind, &bytes),
                        finite,
                        "{kind:?} {word:x} at {}",
                        place - last
                    );
                    refused += usize::from(!finite);
                }
            }
            assert!(refused > 0, "{kind:?}");
        }
    }
}
