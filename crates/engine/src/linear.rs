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
