//! Weight matrices, plain or quantised, with or without a bias.

use crate::LoadError;
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
}

impl Precision {
    /// The name within an engine class.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Q8_0 => "q8_0",
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
        match precision {
            Precision::F32 => Ok(Self::dense(weight)),
            Precision::Q8_0 => {
                let columns = weight.dim(1)?;
                if !columns.is_multiple_of(GgmlDType::Q8_0.block_size()) {
                    return Err(LoadError::Config(format!(
                        "a matrix has {columns} columns; q8_0 needs a multiple of 32, so load this model as f32"
                    )));
                }
                Ok(Self::quantised(QTensor::quantize(&weight, GgmlDType::Q8_0)?))
            }
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
            Matrix::Quantised(weight) => weight.forward(rows)?,
        };
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
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

/// The types of matrices by GGML's names, joined with `+`: `q8_0` for most.
pub(crate) fn kinds<'a>(matrices: impl Iterator<Item = &'a Linear>) -> String {
    let kinds: BTreeSet<&str> = matrices.map(Linear::kind).collect();
    kinds.into_iter().collect::<Vec<_>>().join("+")
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

/// Whether rows of a product with such a matrix have the same bits in any batch. Measured, and
/// tested for `q8_0`; `q6_k` is known to differ, others are not known.
pub(crate) fn is_exact(kind: &str) -> bool {
    matches!(kind, "q8_0" | "q4_0" | "q4_k")
}
