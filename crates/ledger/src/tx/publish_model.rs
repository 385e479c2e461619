//! `publish_model`: a version of a model, by the hash of its content, which its publisher has committed
//! to before (`commit_model`).
//!
//! The first version creates the line, which is unique by name, and gives all of its shares to the
//! publisher, who alone publishes later versions. Royalty and licence belong to the version and
//! never change: what is pinned in a lane, or was bought, keeps its terms, and a publisher changes
//! them by publishing anew.
//!
//! A version that was made from others names them. Its royalty includes theirs: the lines that its
//! parents pay are paid from it first, each once and with the highest part that one of the parents
//! gives it, and the version's own line gets what is left. A parent of the same line adds nothing to
//! its own line. Who hides a parent is not found out here.

use super::{Action, Events, Stop, Transaction, check_list, commit_model};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::{FULL_BPS, MAX_PARENTS, MAX_ROYALTIES, SHARES},
    record::{Line, Model, RoyaltyPart, Shares},
    rejection::Rejection,
    text,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Digest, LineId, ModelId, StateKey};
use serde::{Deserialize, Serialize};

/// A version of the sender's model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PublishModel {
    /// The hash of its manifest, thus of its content.
    pub model: ModelId,
    /// The line's name, for example `acme/speller`.
    pub name: String,
    /// The licence, as an SPDX expression.
    pub licence: String,
    /// What every payment for it gives away, in basis points, at most 10 000: its own line's part and
    /// those of its parents' lines.
    pub royalty_bps: u16,
    /// The versions that it was made from, ascending, at most 4.
    pub parents: Vec<ModelId>,
    /// The tokenizer, by content.
    pub tokenizer: Digest,
    /// What an engine must be able to run, for example `llama-f32`.
    pub engine: String,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// The salt of the commitment.
    pub salt: Digest,
}

impl Action for PublishModel {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        let line = keys::line_id(&self.name);
        keys.push(keys::model(&self.model));
        keys.push(keys::line(&line));
        keys.push(keys::shares(&line, &tx.sender));
        keys.extend(self.parents.iter().map(keys::model));
        keys.push(commit_model::key(&tx.sender, self.clone()));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        text::name(&self.name)?;
        text::licence(&self.licence)?;
        text::engine(&self.engine)?;
        if self.royalty_bps > FULL_BPS {
            return Err(Malformed::OutOfBounds { what: "the royalty" });
        }
        check_list(self.parents.iter(), "parents", 0, MAX_PARENTS)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let model_key = keys::model(&self.model);
        if overlay.get::<Model>(&model_key)?.is_some() {
            return Err(Rejection::ModelExists.into());
        }
        let id = keys::line_id(&self.name);
        let royalties = self.royalties(&id, overlay)?;
        let line_key = keys::line(&id);
        let line = match overlay.get::<Line>(&line_key)? {
            Some(line) if line.owner != Some(tx.sender) => return Err(Rejection::NotLineOwner.into()),
            Some(line) => Line {
                versions: line.versions.checked_add(1).ok_or(Fault::Range)?,
                latest: self.model,
                ..line
            },
            None => {
                let shares = Shares { line: id, holder: tx.sender, shares: SHARES };
                overlay.put(&keys::shares(&id, &tx.sender), shares)?;
                Line {
                    line: id,
                    name: self.name.clone(),
                    owner: Some(tx.sender),
                    versions: 1,
                    latest: self.model,
                }
            }
        };
        let commitment = commit_model::key(&tx.sender, self.clone());
        commit_model::reveal(overlay, context, &commitment)?;
        let version = line.versions;
        overlay.put(&line_key, line)?;
        let model = Model {
            model: self.model,
            line: id,
            name: self.name.clone(),
            version,
            publisher: tx.sender,
            foreign: false,
            licence: self.licence.clone(),
            royalty_bps: self.royalty_bps,
            parents: self.parents.clone(),
            royalties,
            tokenizer: self.tokenizer,
            engine: self.engine.clone(),
            size_bytes: self.size_bytes,
            time_ms: context.time_ms,
        };
        overlay.put(&model_key, model)?;
        Ok(vec![Event::ModelPublished {
            model: self.model,
            line: id,
            name: self.name.clone(),
            version,
            publisher: tx.sender,
            royalty_bps: self.royalty_bps,
        }])
    }
}

impl PublishModel {
    /// Whom the royalty goes to: the parents' lines, then its own.
    fn royalties(&self, own: &LineId, overlay: &mut Overlay<'_>) -> Result<Vec<RoyaltyPart>, Stop> {
        let mut parts: Vec<RoyaltyPart> = Vec::new();
        for parent in &self.parents {
            let parent: Model = overlay.get(&keys::model(parent))?.ok_or(Rejection::UnknownParent)?;
            for part in parent.royalties.iter().filter(|part| part.line != *own) {
                match parts.iter_mut().find(|known| known.line == part.line) {
                    Some(known) => known.bps = known.bps.max(part.bps),
                    None => parts.push(*part),
                }
            }
        }
        let sum = parts.iter().map(|part| part.bps).try_fold(0u16, u16::checked_add);
        let rest = sum.and_then(|sum| self.royalty_bps.checked_sub(sum));
        let bps = rest.ok_or(Rejection::RoyaltyBelowParents)?;
        if bps > 0 {
            parts.push(RoyaltyPart { line: *own, bps });
        }
        if parts.len() > MAX_ROYALTIES {
            return Err(Rejection::TooManyRoyalties.into());
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tx::{Settle, SettleClaim},
        world::*,
    };
    use gristmill_types::Claim;

    #[test]
    fn versions_of_a_line() {
        let mut world = World::new();
        let second = ModelId::new([8; 32]);
        world.commit(MODELER, publish("acme/speller", MODEL));
        let events = world.must(MODELER, publish("acme/speller", MODEL));
        let event = |model, version, royalty_bps| Event::ModelPublished {
            model,
            line: line(),
            name: "acme/speller".into(),
            version,
            publisher: id(MODELER),
            royalty_bps,
        };
        assert_eq!(events, [event(MODEL, 1, ROYALTY_BPS)]);
        let shares: Shares = world.get(&keys::shares(&line(), &id(MODELER))).unwrap();
        assert_eq!(shares.shares, SHARES);
        // A later version may have another royalty; the first keeps its own.
        let later = PublishModel { royalty_bps: 5, ..publish("acme/speller", second) };
        world.commit(MODELER, later.clone());
        let events = world.must(MODELER, later);
        assert_eq!(events, [event(second, 2, 5)]);
        assert_eq!(world.model(&MODEL).unwrap().royalty_bps, ROYALTY_BPS);
        let kept: Line = world.get(&keys::line(&line())).unwrap();
        assert_eq!((kept.versions, kept.latest, kept.owner), (2, second, Some(id(MODELER))));
    }

    fn child(name: &str, model: ModelId, parents: &[ModelId], royalty_bps: u16) -> PublishModel {
        PublishModel { parents: parents.into(), royalty_bps, ..publish(name, model) }
    }

    /// Publishes a version, and says whom its royalty goes to.
    fn made(world: &mut World, payload: PublishModel) -> Vec<(LineId, u16)> {
        let model = payload.model;
        world.commit(STRANGER, payload.clone());
        world.must(STRANGER, payload);
        world.model(&model).unwrap().royalties.iter().map(|part| (part.line, part.bps)).collect()
    }

    #[test]
    fn a_royalty_includes_the_parents() {
        let mut world = World::with_models();
        let [one, two, three, four] = [11, 12, 13, 14].map(|n| ModelId::new([n; 32]));
        let [a, b, c] = ["a", "b", "c"].map(keys::line_id);
        let acme = (line(), ROYALTY_BPS);
        // A foreign parent gets nothing; the line's own part comes last.
        let parts = made(&mut world, child("a", one, &[MODEL, FOREIGN], 1_500));
        assert_eq!(parts, [acme, (a, 500)]);
        // A grandparent is paid once, by the highest part that a parent gives it.
        let parts = made(&mut world, child("b", two, &[MODEL, one], 1_700));
        assert_eq!(parts, [acme, (a, 500), (b, 200)]);
        // A parent of the same line adds nothing to its own line, which may take another part now.
        let parts = made(&mut world, child("a", three, &[one], 1_001));
        assert_eq!(parts, [acme, (a, 1)]);
        // Nothing of one's own is allowed, too.
        let parts = made(&mut world, child("c", four, &[two], 1_700));
        assert_eq!(parts, [acme, (a, 500), (b, 200)]);
        assert!(!parts.iter().any(|(line, _)| *line == c));
        let new = ModelId::new([15; 32]);
        for (payload, rejection) in [
            (child("d", new, &[MODEL], ROYALTY_BPS - 1), Rejection::RoyaltyBelowParents),
            (child("d", new, &[two], 1_699), Rejection::RoyaltyBelowParents),
            (child("d", new, &[new], 10_000), Rejection::UnknownParent),
        ] {
            assert_eq!(world.rejected(STRANGER, payload), rejection);
        }
        let many: Vec<_> = (20..25).map(|n| ModelId::new([n; 32])).collect();
        let payload = child("d", new, &many, 10_000);
        assert!(matches!(world.malformed(STRANGER, payload), Malformed::Count { .. }));
        let payload = child("d", new, &[two, one], 10_000);
        assert!(matches!(world.malformed(STRANGER, payload), Malformed::Unsorted { .. }));
    }

    #[test]
    fn no_more_lines_than_fit() {
        let mut world = World::new();
        let mut parent: Option<ModelId> = None;
        for number in 0..8u8 {
            let model = ModelId::new([40 + number; 32]);
            let parents: Vec<_> = parent.into_iter().collect();
            let payload = child(&format!("line{number}"), model, &parents, 10 * u16::from(number + 1));
            assert_eq!(made(&mut world, payload).len(), usize::from(number) + 1);
            parent = Some(model);
        }
        let payload = child("ninth", ModelId::new([50; 32]), &[parent.unwrap()], 90);
        assert_eq!(world.rejected(STRANGER, payload), Rejection::TooManyRoyalties);
    }

    /// A model of which all lines together take everything, paid grain by grain.
    #[test]
    fn many_lines_share_a_payment_and_never_more() {
        let (mut world, terms) = World::with_channel(1_000);
        let [one, two] = [11, 12].map(|n| ModelId::new([n; 32]));
        made(&mut world, child("a", one, &[MODEL], 5_000));
        let parts = made(&mut world, child("b", two, &[one], 10_000));
        let lines: Vec<_> = parts.iter().map(|(line, _)| *line).collect();
        let mut got = [0u128; 3];
        for (number, amount) in (1..=40u128).chain([400, 1_000]).enumerate() {
            let seq = number as u64 + 1;
            let claim = Claim { model: two, ..claim(&terms, 0, seq, amount) };
            let item = SettleClaim { lines: lines.clone(), ..approval(claim) };
            let events = world.must(PAYEE, Settle { terms, claims: vec![item], floor: None });
            let [Event::ClaimPaid { earned, royalties, .. }] = events.as_slice() else { panic!() };
            let sum: u128 = royalties.iter().map(|royalty| royalty.amount.grains()).sum();
            let before = if number == 0 { 0 } else { world_before(number) };
            assert_eq!(sum + earned.grains(), amount - before);
            for (got, royalty) in got.iter_mut().zip(royalties) {
                *got += royalty.amount.grains();
            }
        }
        // The parts are a tenth, two fifths and a half. Where more than one rounds up, those behind
        // get a grain less, at most once a payment.
        assert_eq!(got[0], 100);
        assert!((380..=400).contains(&got[1]) && (480..=500).contains(&got[2]), "{got:?}");
    }

    /// What the lane had come to before the payment with this number.
    fn world_before(number: usize) -> u128 {
        (1..=40u128).chain([400, 1_000]).nth(number - 1).unwrap()
    }

    #[test]
    fn refused() {
        let mut world = World::with_models();
        let new = ModelId::new([8; 32]);
        for (sender, payload, rejection) in [
            (MODELER, publish("acme/speller", MODEL), Rejection::ModelExists),
            (MODELER, publish("acme/other", FOREIGN), Rejection::ModelExists),
            (STRANGER, publish("acme/speller", new), Rejection::NotLineOwner),
            (MODELER, publish("public/weights", new), Rejection::NotLineOwner),
        ] {
            assert_eq!(world.rejected(sender, payload), rejection);
        }
    }

    #[test]
    fn malformed() {
        let mut world = World::new();
        let good = publish("a", MODEL);
        for bad in [
            PublishModel { name: "A".into(), ..good.clone() },
            PublishModel { licence: "".into(), ..good.clone() },
            PublishModel { engine: "a b".into(), ..good.clone() },
        ] {
            assert!(matches!(world.malformed(MODELER, bad), Malformed::Text { .. }));
        }
        let greedy = PublishModel { royalty_bps: FULL_BPS + 1, ..good.clone() };
        assert_eq!(world.malformed(MODELER, greedy), Malformed::OutOfBounds { what: "the royalty" });
        let all = PublishModel { royalty_bps: FULL_BPS, ..good };
        world.commit(MODELER, all.clone());
        world.must(MODELER, all);
    }
}
