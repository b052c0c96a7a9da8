use proptest::prelude::*;

use super::*;

fn encode(samples: &[(i64, u64)]) -> Vec<u8> {
    let mut chunks = XorChunks::with_chunk_samples(u16::MAX);
    for (ts_ms, bits) in samples {
        chunks.push(*ts_ms, f64::from_bits(*bits));
    }
    chunks.finish();
    assert_eq!(chunks.len(), 1);
    chunks.iter().next().unwrap().data.to_vec()
}

fn decode(data: &[u8]) -> Result<Vec<(i64, u64)>, TsdbError> {
    XorDecoder::new(data).map(|s| s.map(|(ts, v)| (ts, v.to_bits()))).collect()
}

/// Times that reach every width of delta, and values of every shape.
fn any_samples() -> impl Strategy<Value = Vec<(i64, u64)>> {
    let step = prop_oneof![
        6 => Just(15_000i64),
        2 => -9_000i64..9_000,
        1 => -70_000i64..70_000,
        1 => -600_000i64..600_000,
        1 => any::<i64>(),
    ];
    let value = prop_oneof![
        4 => (0u64..5).prop_map(|v| (v as f64).to_bits()),
        3 => any::<f64>().prop_map(f64::to_bits),
        2 => any::<u64>(),
        1 => Just(crate::model::STALE_MARKER_BITS),
        1 => Just((-0.0f64).to_bits()),
    ];
    (any::<i64>(), prop::collection::vec((step, value), 1..200)).prop_map(|(start, steps)| {
        let mut ts = start;
        steps
            .into_iter()
            .map(|(step, value)| {
                ts = ts.wrapping_add(step);
                (ts, value)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn any_samples_come_back_bit_for_bit(samples in any_samples()) {
        prop_assert_eq!(decode(&encode(&samples)).unwrap(), samples);
    }

    #[test]
    fn a_chunk_cut_anywhere_gives_its_first_samples_and_then_an_error(samples in any_samples(), cut in 0.0..1.0f64) {
        let data = encode(&samples);
        let data = &data[..(data.len() as f64 * cut) as usize];
        let mut read = 0;
        for (sample, want) in XorDecoder::new(data).zip(&samples) {
            let Ok((ts, value)) = sample else { break };
            prop_assert_eq!((ts, value.to_bits()), *want);
            read += 1;
        }
        if data.len() >= 2 && read < samples.len() {
            prop_assert!(decode(data).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_xor_chunk(&data);
    }
}

#[test]
fn deltas_at_the_edges_of_each_width_come_back() {
    for bits in [14u32, 17, 20] {
        let high = 1i64 << (bits - 1);
        for dod in [high, high + 1, -high + 1, -high, -high - 1] {
            let samples = [(0, 0), (1_000, 0), (2_000 + dod, 0), (3_000 + 2 * dod, 0)];
            assert_eq!(decode(&encode(&samples)).unwrap(), samples);
        }
    }
}

#[test]
fn a_run_is_cut_at_the_chunk_limit_and_reused() {
    let mut chunks = XorChunks::default();
    for round in 0..2 {
        chunks.clear();
        for i in 0..250i64 {
            chunks.push(i * 1_000, i as f64 + f64::from(round));
        }
        chunks.finish();
        chunks.finish();
        let times: Vec<_> = chunks.iter().map(|c| (c.min_time_ms, c.max_time_ms)).collect();
        assert_eq!(times, [(0, 119_000), (120_000, 239_000), (240_000, 249_000)]);
        let samples: Vec<_> =
            chunks.iter().flat_map(|c| XorDecoder::new(c.data)).map(Result::unwrap).collect();
        assert_eq!(samples, (0..250).map(|i| (i * 1_000, i as f64 + f64::from(round))).collect::<Vec<_>>());
    }
}

#[test]
fn a_chunk_holds_65535_samples() {
    let samples: Vec<_> = (0..65_535).map(|i| (i * 15_000, (i as f64 * 0.1).to_bits())).collect();
    assert_eq!(decode(&encode(&samples)).unwrap(), samples);
}

#[test]
fn a_window_wider_than_a_value_is_refused() {
    // Two samples; the second has 31 leading zeros and 63 bits: `11 11111 111111`.
    let mut data = vec![0, 2, 0];
    data.extend_from_slice(&[0; 8]);
    data.extend_from_slice(&[1, 0xFF, 0xF8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let error = decode(&data).unwrap_err();
    assert_eq!(error, TsdbError::BadWindow { sample: 1, leading: 31, significant: 63 });
    assert_eq!(error.kind(), crate::model::ErrorKind::Corrupt);
}

#[test]
fn no_bytes_are_no_samples() {
    assert_eq!(decode(&[]), Ok(vec![]));
    assert_eq!(decode(&[0]), Ok(vec![]));
    assert_eq!(decode(&[0, 0]), Ok(vec![]));
    assert_eq!(decode(&[0, 1]), Err(TsdbError::CutOff { sample: 0, count: 1 }));
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn chunks_that_prometheus_wrote_are_pinned() {
    // From a scrape of real exporters each second, with late scrapes, reused windows and a stale marker at the end.
    let stale = crate::model::STALE_MARKER_BITS;
    let cases: [(&str, &[(i64, u64)]); 2] = [
        (
            "0008f4c8bbafc0684099c00000000000e8074002f5077fec8005e81609",
            &[
                (1_795_346_100_794, 1648.0f64.to_bits()),
                (1_795_346_101_794, 1648.0f64.to_bits()),
                (1_795_346_102_799, 1649.0f64.to_bits()),
                (1_795_346_103_794, 1649.0f64.to_bits()),
                (1_795_346_104_794, 1650.0f64.to_bits()),
                (1_795_346_105_794, 1650.0f64.to_bits()),
                (1_795_346_106_794, 1650.0f64.to_bits()),
                (1_795_346_107_794, 1651.0f64.to_bits()),
            ],
        ),
        (
            "0004c8d28bafc0683ff0000000000000e8071001187e8000000000000004",
            &[
                (1_795_345_708_196, 1.0f64.to_bits()),
                (1_795_345_709_196, 1.0f64.to_bits()),
                (1_795_345_710_196, 1.0f64.to_bits()),
                (1_795_345_711_204, stale),
            ],
        ),
    ];
    for (hex, samples) in cases {
        assert_eq!(decode(&from_hex(hex)).unwrap(), samples);
        assert_eq!(encode(samples), from_hex(hex));
    }
}
