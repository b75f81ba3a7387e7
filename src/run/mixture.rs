//! The utility of experts that answer together, and what tells how near they are to a prompt.
//!
//! Each prompt has shares of its own, which hold for everything that follows from it: an abstain
//! task's second question is answered by the same experts with the same weights as its first.

use rayon::prelude::*;

use super::evaluate::{Base, Evaluator, rate};
use crate::error::Result;
use crate::model::Adapted;
use crate::model::embed::EmbedJob;
use crate::model::mixture::{MixedJob, MixedText, Share};
use crate::task::{Answers, LogLikelihood, Score, Split, Work};

impl Base {
    /// Each text as the mean of the base's last hidden states over its tokens, `(n_texts, dim)`.
    /// Texts are raw; one that is longer than the model takes is cut. `<bos>` is read and does not
    /// count.
    pub fn embed(&self, texts: &[String], batch: Option<usize>) -> Result<Vec<Vec<f64>>> {
        let encode = |(idx, text): (usize, &String)| {
            let (mut ids, mut counts) = self.tokenizer.encode_from(text, 0)?;
            ids.truncate(self.model.config.max_positions);
            counts.truncate(ids.len());
            self.check(&ids, &format!("text {idx}"), 0)?;
            Ok((ids, counts))
        };
        let encoded: Vec<(Vec<u32>, Vec<bool>)> =
            texts.par_iter().enumerate().map(encode).collect::<Result<_>>()?;
        let jobs: Vec<EmbedJob> =
            encoded.iter().map(|(tokens, counts)| EmbedJob { tokens, counts }).collect();
        self.model.mean_hidden(&jobs, batch)
    }
}

impl Evaluator {
    /// What the model is asked in each example of each part, as raw text: the prompt, or what
    /// stands before a text that is scored.
    pub fn prompts(&self, split: Split) -> Result<Vec<Vec<String>>> {
        let prompts = |work| match work {
            Work::Generate { prompts, .. } => prompts,
            Work::LogLikelihood(texts) => texts.into_iter().map(|text| text.prompt).collect(),
            Work::Command { .. } | Work::Rate { .. } => panic!("a program is asked no questions"),
        };
        self.task.parts.iter().map(|part| part.work(split).map(prompts)).collect()
    }

    /// The score of `experts` that answer together, given the shares in each example of each part.
    pub fn mixed_score(
        &self,
        experts: &Adapted,
        shares: &[Vec<Vec<Share>>],
        split: Split,
    ) -> Result<Score> {
        assert_eq!(shares.len(), self.task.parts.len(), "shares for each part");
        let mut scores = Vec::with_capacity(shares.len());
        for (part, shares) in self.task.parts.iter().zip(shares) {
            let first = self.mixed_answers(experts, shares, part.work(split)?)?;
            let second = part.follow_up(split, &first);
            let second =
                second.map(|work| self.mixed_answers(experts, shares, work)).transpose()?;
            scores.push(part.score(split, &first, second.as_ref())?);
        }
        Ok(self.task.combine(scores))
    }

    /// What the experts answer to `work`, given their shares in each of its prompts.
    fn mixed_answers(
        &self,
        experts: &Adapted,
        shares: &[Vec<Share>],
        work: Work,
    ) -> Result<Answers> {
        let base = &self.base;
        match work {
            Work::Generate { .. } => {
                let (prompts, max_new_tokens) = self.encoded(&work)?;
                assert_eq!(prompts.len(), shares.len(), "shares for each prompt");
                let jobs = prompts.iter().zip(shares);
                let jobs: Vec<MixedJob> = jobs
                    .map(|(tokens, shares)| MixedJob { shares, tokens, max_new_tokens })
                    .collect();
                let answers = base.model.generate_mixed(experts, &jobs, &base.eos, self.batch())?;
                let texts = answers.par_iter().map(|tokens| base.tokenizer.decode(tokens));
                Ok(Answers::Texts(texts.collect::<Result<_>>()?))
            }
            Work::LogLikelihood(texts) => {
                let encoded = self.scored_tokens(&texts)?;
                assert_eq!(encoded.len(), shares.len(), "shares for each text");
                let jobs = encoded.iter().zip(shares);
                let jobs: Vec<MixedText> = jobs
                    .map(|((tokens, scored), shares)| MixedText { shares, tokens, scored })
                    .collect();
                let sums = base.model.log_likelihoods_mixed(experts, &jobs, self.batch())?;
                let each = sums.into_iter().zip(&jobs).map(|(sum, job)| {
                    let n_tokens = job.scored.iter().filter(|scored| **scored).count();
                    LogLikelihood { sum, n_tokens }
                });
                Ok(Answers::LogLikelihoods(each.collect()))
            }
            Work::Rate { .. } => rate(&work),
            Work::Command { .. } => panic!("a command measures adapters, and a mixture is none"),
        }
    }
}
