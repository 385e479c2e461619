//! Bodies of requests for chats, texts and vectors, as anybody sends them.

use gristmill_net::openai::{
    ApiError, MAX_CHOICES, MAX_INPUTS, MAX_MESSAGES, MAX_REQUEST_BYTES, MAX_STOPS, Prompt, PromptRequest,
    SamplingDefaults, Shape,
};
use gristmill_types::{Limits, Unit};

const LIMITS: Limits = Limits { context_tokens: 100, output_tokens: 50, window_tokens: 8, window_ms: 0 };
const MAX_ERROR_BYTES: usize = 4 * 1024;

/// The first byte says which shape. What is read is written as a body that reads the same; what is refused
/// is told shortly.
pub fn run(data: &[u8]) {
    let Some((shape, data)) = data.split_first() else { return };
    let shape = match shape {
        0 => Shape::Chat,
        1 => Shape::Text,
        2 => Shape::Embeddings,
        _ => return,
    };
    let request = match PromptRequest::parse(data, shape) {
        Ok(request) => request,
        Err(error) => return told(&error),
    };
    assert_eq!(request.shape(), shape);
    match &request.prompt {
        Prompt::Messages(messages) => assert!((1..=MAX_MESSAGES).contains(&messages.len())),
        Prompt::Text(_) => {}
        Prompt::Inputs(inputs) => assert!((1..=MAX_INPUTS).contains(&inputs.len())),
    }
    assert!((1..=MAX_CHOICES).contains(&request.n) && request.stop.len() <= MAX_STOPS);
    let body = request.to_body();
    assert!(body.len() <= MAX_REQUEST_BYTES, "a request that was read is too long to be sent on");
    // How numbers are sent to the client is no affair of the processor's.
    let sent = PromptRequest { encoding: Default::default(), ..request.clone() };
    assert_eq!(PromptRequest::parse(&body, shape).as_ref(), Ok(&sent));
    for exact in [true, false] {
        let _ = (request.check_engine(exact).map_err(|error| told(&error)), request.check_purpose(exact));
    }
    for prompt_tokens in [0, 1, 99, 100, u32::MAX] {
        match request.sampling(prompt_tokens, Unit::Token, &LIMITS, &SamplingDefaults::default()) {
            Ok(sampling) => {
                assert!((1..=LIMITS.output_tokens).contains(&sampling.max_tokens));
                assert!(prompt_tokens + sampling.max_tokens <= LIMITS.context_tokens);
                assert!(sampling.temperature_micros <= 2_000_000 && (1..=64).contains(&sampling.top_k));
            }
            Err(error) => told(&error),
        }
    }
}

fn told(error: &ApiError) {
    assert!(error.status.is_client_error(), "{error:?}");
    assert!(error.body().len() <= MAX_ERROR_BYTES, "a long refusal: {error:?}");
}
