//! Logs of payers, payees and budgets, and damages of a store.

use crate::{Seed, of_kind};
use gristmill_channel::Budgets;
use gristmill_fuzz::join;
use gristmill_types::encode;
use world::{ANN, World, grains, terms};

#[path = "../../../channel/tests/it/world.rs"]
#[allow(dead_code, reason = "only whole requests are needed")]
mod world;

pub(crate) fn add(seeds: &mut Vec<Seed>) {
    let mut world = World::new();
    for tokens in [1, 40, 16] {
        world.request(10, 100, tokens);
        logs(seeds, &world);
        for pending in world.payer.trim() {
            world.payer_does(pending);
        }
    }
    // In flight when the payer starts again.
    let lane = world.start(10, 100);
    world.place(lane, b"{}", world::ask(10, 100));
    world.stream(lane, 20);
    logs(seeds, &world);
    world.restart_payer();
    let copy = encode(&world.payee.copy());
    seeds.push(("channel", of_kind(3, join(world.payer_log.iter().chain([&copy])))));
    for pending in world.payer.reconcile(&world.payee.copy()).pending {
        world.payer_does(pending);
    }
    let mut view = world.payer.view().clone();
    view.settled = grains(10);
    view.lanes.insert(0, grains(10));
    let (_, pending) = world.payer.observe(view.clone()).unwrap();
    world.payer_does(pending.unwrap());
    let pending = world.payee.observe(view).unwrap().unwrap();
    world.payee_does(pending);
    logs(seeds, &world);
    seeds.push(("channel", of_kind(0, join([encode(&world.payer.checkpoint())]))));
    seeds.push(("channel", of_kind(1, join([encode(&world.payee.checkpoint())]))));

    let mut budgets = Budgets::default();
    let at = gristmill_channel::LaneRef { channel: terms().id(), lane: 3 };
    let mut log = vec![budgets.set_limit(ANN, grains(100)).unwrap().bytes()];
    log.push(budgets.track(at, ANN, grains(9), grains(4)).unwrap().unwrap().bytes());
    seeds.push(("channel", of_kind(2, join(&log))));
    log.push(budgets.close(at).unwrap().unwrap().bytes());
    log.push(encode(&budgets.checkpoint()));
    log.push(budgets.remove(ANN).unwrap().bytes());
    seeds.push(("channel", of_kind(2, join(&log))));

    for closed in [0, 1] {
        seeds.push(("store", vec![closed]));
        for file in 0..3_u8 {
            for (how, place) in [(0, 0_u16), (0, 5_000), (1, 30), (1, 4_100), (2, 9_000), (1, 16_380)] {
                let [low, high] = place.to_le_bytes();
                seeds.push(("store", of_kind(closed, join([[file, how, low, high, 1, 0x80]]))));
            }
        }
    }
}

fn logs(seeds: &mut Vec<Seed>, world: &World) {
    seeds.push(("channel", of_kind(0, join(&world.payer_log))));
    seeds.push(("channel", of_kind(1, join(&world.payee_log))));
}
