//! Models without layers that are a bigram chain.

use super::{BuildContext, ModelKind, Theory, checked};
use crate::chain::ChainKind;
use crate::kind::Described;
use crate::model::{ModelConfig, Normalization, Positions, Transformer, Weights};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// A model without layers whose table `W_E W_U` is a bigram chain, as far as `d_model` allows.
///
/// The wanted logits are ln p(next | present), with each row's mean taken off, as a softmax does not see it. `W_E` and `W_U` are the
/// `d_model` largest terms of their singular value decomposition, the root of each singular value on either side: of all tables of
/// that rank the one nearest in mean square over all pairs, rare ones counting as much as frequent ones (so it need not be the one of
/// least loss). With d_model ≥ V − 1, or ≥ the rank of the chain, the model is the chain.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bigram {
    /// Which chain: a map of `name` (default: `main`), `sharpness` (0 to 20, default: 1) and `rank` (default: the number of tokens),
    /// as for an input of kind `markov`, to which the same should be given.
    #[serde(default)]
    pub chain: ChainKind,
    /// Number of tokens.
    #[schemars(range(min = 1, max = 4096))]
    pub vocab: usize,
    /// Longest sequence.
    #[schemars(range(min = 1))]
    pub context: usize,
    /// Width of the residual stream; what is wider than the chain needs stays zero. Default: as much as every chain fits into, V − 1.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub d_model: Option<usize>,
}

impl Described for Bigram {
    const NAME: &'static str = "bigram";
    const EXAMPLE: &'static str = "\
bigram:
  kind: bigram
  chain: { sharpness: 2 }
  vocab: 33
  context: 61
  sweep: { d_model: [1, 4, 16, 32] }
";
}

impl Bigram {
    fn model_config(&self) -> Result<ModelConfig> {
        if self.vocab == 0 {
            return Err(Error::parameter("vocab", "vocab must be at least 1"));
        }
        if self.d_model == Some(0) {
            return Err(Error::parameter("d_model", "d_model must be at least 1"));
        }
        self.chain.check(Some(self.vocab))?;
        let d_model = self.d_model.unwrap_or((self.vocab - 1).max(1));
        checked(ModelConfig {
            n_layers: 0,
            n_heads: 1,
            d_model,
            d_head: d_model,
            d_vocab: self.vocab,
            n_ctx: self.context,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: Positions::None,
            attn_scale: (d_model as f64).sqrt(),
        })
    }
}

impl ModelKind for Bigram {
    fn config(&self, _: &Path) -> Result<ModelConfig> {
        self.model_config()
    }

    fn build(&self, context: &BuildContext) -> Result<Transformer> {
        let config = self.model_config()?;
        let chain = self.chain.draw(self.vocab, &context.stream)?;
        let (present, next) = chain.factors(config.d_model)?;
        let (w_e, w_u) = (present.mapv(|x| x as f32), next.mapv(|x| x as f32));
        let weights = Weights { w_e, w_pos: None, blocks: Vec::new(), ln_final: None, w_u, b_u: None };
        Transformer::new(config, weights)
    }

    /// The chain is drawn, but by its name: it is the same in every replicate.
    fn is_random(&self) -> bool {
        false
    }

    fn theory(&self) -> Result<Theory> {
        let config = self.model_config()?;
        Ok(Theory::Chain(CutChain { chain: self.chain.clone(), tokens: self.vocab, width: config.d_model }))
    }
}

/// A bigram chain as a model without layers knows it.
///
/// What [`ModelKind::theory`] says of a [`Bigram`].
///
/// ```
/// use attn_circuits::model::build::{Bigram, CutChain, ModelKind, Theory};
/// use attn_circuits::stream::Stream;
/// use serde_json::json;
/// let loss = |d_model: usize| -> Result<[f64; 2], Box<dyn std::error::Error>> {
///     let bigram: Bigram = serde_json::from_value(json!({ "vocab": 10, "context": 13, "d_model": d_model }))?;
///     let Theory::Chain(CutChain { chain, tokens, width }) = bigram.theory()? else { panic!("it is a chain") };
///     let chain = chain.draw(tokens, &Stream::new(1))?;
///     let (present, next) = chain.factors(width)?;    // [V, d], [d, V]
///     Ok([chain.mean_loss(present.dot(&next).view()), chain.entropy_rate()])
/// };
/// // What is cut off is missed; of V − 1 terms nothing is.
/// let ([narrow, least], [wide, same]) = (loss(3)?, loss(9)?);
/// assert!(narrow > least + 1e-3 && (wide - same).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CutChain {
    /// The chain.
    pub chain: ChainKind,
    /// Its number of tokens.
    pub tokens: usize,
    /// The width of the stream, at which the table is cut off.
    pub width: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::circuit::loss::loss;
    use crate::input::{InputContext, InputKind, Markov};
    use crate::linalg::svd;
    use crate::model::Keep;
    use crate::stream::Stream;
    use approx::assert_abs_diff_eq;
    use ndarray::{Array2, Axis, s};

    fn kind(vocab: usize, d_model: Option<usize>, rank: Option<usize>) -> Bigram {
        let chain = ChainKind { name: "test".into(), sharpness: 2.0, rank };
        Bigram { chain, vocab, context: 40, d_model }
    }

    fn stream() -> Stream {
        Stream::new(4)
    }

    fn chain(kind: &Bigram) -> Chain {
        kind.chain.draw(kind.vocab, &stream()).unwrap()
    }

    fn build(kind: &Bigram) -> Transformer {
        kind.build(&BuildContext { base: Path::new("."), stream: stream().child("models").child("x") }).unwrap()
    }

    /// `W_E W_U` in double precision.
    fn table(model: &Transformer) -> Array2<f64> {
        model.w_e().mapv(f64::from).dot(&model.w_u().mapv(f64::from))
    }

    #[test]
    fn the_whole_chain_fits_into_one_less_than_its_tokens() {
        for (vocab, d_model, rank) in [
            (20, None, None),
            (20, Some(25), None),
            (20, Some(3), Some(3)),
            (20, Some(7), Some(3)),
            (1, None, None),
            (2, None, None),
        ] {
            let kind = kind(vocab, d_model, rank);
            let model = build(&kind);
            let chain = self::chain(&kind);
            let table = table(&model);
            for (logits, log_p) in table.rows().into_iter().zip(chain.log_probabilities().rows()) {
                let offset = log_p[0] - logits[0];
                for (logit, log_p) in logits.iter().zip(log_p) {
                    assert_abs_diff_eq!(logit + offset, log_p, epsilon = 1e-5);
                }
            }
            assert_abs_diff_eq!(chain.mean_loss(table.view()), chain.entropy_rate(), epsilon = 1e-9);
        }
        // One less, and something is missing.
        let narrow = kind(20, Some(18), None);
        let chain = self::chain(&narrow);
        assert!(chain.mean_loss(table(&build(&narrow)).view()) > chain.entropy_rate() + 1e-6);
    }

    /// Eckart and Young: what is missing is what the singular values left out amount to.
    #[test]
    fn a_narrow_model_is_the_nearest_of_its_rank() {
        let chain = self::chain(&kind(16, None, None));
        let log_p = chain.log_probabilities();
        let wanted = &log_p - &log_p.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
        let values = svd(wanted.view()).unwrap().s;
        for d_model in [1, 4, 10] {
            let missing = &wanted - &table(&build(&kind(16, Some(d_model), None)));
            let left: f64 = values.iter().skip(d_model).map(|value| value * value).sum();
            assert_abs_diff_eq!(missing.mapv(|x| x * x).sum(), left, epsilon = 1e-3);
        }
    }

    #[test]
    fn its_loss_on_the_text_of_its_chain_is_the_entropy_rate() {
        let kind = kind(12, None, None);
        let text = Markov { sequences: 500, length: 40, chain: kind.chain.clone(), start: false };
        let batch = text
            .build(&InputContext {
                base: Path::new("."),
                stream: stream().child("inputs"),
                d_vocab: kind.vocab,
                original: None,
            })
            .unwrap();
        let model = build(&kind);
        let found = loss(&model, &batch).unwrap().loss.mean().unwrap();
        let chain = self::chain(&kind);
        assert_abs_diff_eq!(found, chain.entropy_rate(), epsilon = 0.03);
        // Another chain of the same sharpness is no help.
        let other = Bigram { chain: ChainKind { name: "other".into(), ..kind.chain.clone() }, ..kind };
        assert!(loss(&build(&other), &batch).unwrap().loss.mean().unwrap() > found + 1.0);
        // The present token is all that counts.
        let cache = model.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap();
        let (logits, table) = (cache.logits.unwrap(), table(&model));
        for (position, &token) in batch.tokens().row(0).iter().enumerate() {
            for (logit, expected) in logits.slice(s![0, position, ..]).iter().zip(table.row(token as usize)) {
                assert_abs_diff_eq!(f64::from(*logit), *expected, epsilon = 1e-5);
            }
        }
    }

    #[test]
    fn errors_name_the_parameter() {
        let text = |kind: Bigram| kind.config(Path::new(".")).unwrap_err().to_string();
        assert!(text(kind(0, None, None)).starts_with("vocab"));
        assert!(text(kind(5, Some(0), None)).starts_with("d_model"));
        assert!(text(kind(5, None, Some(6))).starts_with("chain.rank"));
        assert!(text(kind(5000, None, None)).contains("5000"));
        assert!(text(Bigram { context: 0, ..kind(5, None, None) }).contains("n_ctx"));
    }
}
