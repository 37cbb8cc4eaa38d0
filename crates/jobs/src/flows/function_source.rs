//! A function that is called with the messages of a stream, as Kinesis calls one of AWS Lambda: the same event, the same
//! answer, so that a function that was written for AWS runs unchanged.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::FunctionSource;
use function::host::{Answer, Event, Refusal};
use serde_json::{Value, json};
use stream::{Address, Broker, Delivery};
use transfer::consume::{BatchHandler, BatchOutcome, HandlerSettings};

use crate::function_host::{FunctionCall, invoke};
use crate::warehouse::Warehouse;

/// The code that is called where no version is named.
const LATEST: &str = "$LATEST";

/// The account in names of resources, where there is none.
const ACCOUNT: &str = "000000000000";
const LOCAL: &str = "local";

/// Calls a function.
struct FunctionHandler {
    warehouse: Warehouse,
    call: FunctionSource,
    region: String,
    stream: String,
}

/// The handler that calls a function of the warehouse.
///
/// # Errors
/// Where there is no such function.
pub fn handler(warehouse: &Warehouse, address: &Address, call: &FunctionSource) -> Result<HandlerSettings> {
    warehouse.function(&call.function)?;
    let region = match &address.broker {
        Broker::Kinesis { region, .. } => region.clone().or_else(|| warehouse.aws_credentials().region()),
        Broker::Nats { .. } => None,
    };
    let handler = FunctionHandler {
        warehouse: Warehouse::open(&warehouse.config.root, warehouse.environment.clone())?,
        call: call.clone(),
        region: region.unwrap_or_else(|| LOCAL.to_owned()),
        stream: address.stream.clone(),
    };
    Ok(HandlerSettings {
        handler: Arc::new(handler),
        batch_size: call.batch_size,
        batch_window: call.batch_window,
        bisects: call.bisects,
        retries_max: call.retries_max,
    })
}

impl FunctionHandler {
    /// The event of a call.
    fn event(&self, shard: &str, messages: &[Delivery]) -> Value {
        let arn = format!("arn:aws:kinesis:{}:{ACCOUNT}:stream/{}", self.region, self.stream);
        // Shards of NATS are numbers.
        let shard = match shard.parse::<u64>() {
            Ok(number) => format!("shardId-{number:012}"),
            Err(_) => shard.to_owned(),
        };
        let record = |message: &Delivery| {
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": message.partition_key.as_deref().unwrap_or(&shard),
                    "sequenceNumber": message.sequence,
                    "data": STANDARD.encode(&message.data),
                    "approximateArrivalTimestamp": message.stored_at as f64 / 1e6,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": format!("{shard}:{}", message.sequence),
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": format!("arn:aws:iam::{ACCOUNT}:role/wattlake"),
                "awsRegion": self.region,
                "eventSourceARN": arn,
            })
        };
        json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
    }
}

#[async_trait]
impl BatchHandler for FunctionHandler {
    async fn call(&self, shard: &str, messages: &[Delivery]) -> base::Result<BatchOutcome> {
        let payload = serde_json::to_vec(&self.event(shard, messages))
            .map_err(|error| base::Error::bug("write an event").because(error))?;
        let qualifier = self.call.qualifier.as_deref().unwrap_or(LATEST);
        let call = FunctionCall { function: &self.call.function, qualifier, event: event_of(payload), waits: true };
        let context = || format!("call the function {}", self.call.function);
        let execution = match invoke(&self.warehouse, call).await {
            Ok(Ok(execution)) => execution,
            Ok(Err(refusal)) => return Err(refused(&context(), &refusal)),
            Err(error) => return Err(base::Error::retry(context()).because(error)),
        };
        Ok(match &execution.outcome.answer {
            Answer::Response(answer) => outcome(&String::from_utf8_lossy(answer), messages),
            Answer::Error(error) => BatchOutcome::Failed(String::from_utf8_lossy(&error.body).into_owned()),
        })
    }
}

fn event_of(payload: Vec<u8>) -> Event {
    Event { request_id: uuid::Uuid::new_v4().to_string(), payload: payload.into(), ..Event::default() }
}

/// Why a function was not called: it may be deployed again, or have room later.
fn refused(context: &str, refusal: &Refusal) -> base::Error {
    match refusal {
        Refusal::Unknown => base::Error::retry(format!("{context}: it is not deployed"))
            .hint("deploy it: wattlake function deploy NAME"),
        Refusal::Busy(_) => base::Error::retry(format!("{context}: its concurrency limit is reached")),
        Refusal::Failed(error) => base::Error::retry(format!("{context}: {}", base::chain(error))),
    }
}

/// What an answer says of the messages: an answer with `batchItemFailures` names those that have failed.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>
fn outcome(answer: &str, messages: &[Delivery]) -> BatchOutcome {
    let parsed: Value = serde_json::from_str(answer).unwrap_or_default();
    let Some(failures) = parsed.get("batchItemFailures").and_then(Value::as_array) else { return BatchOutcome::Done };
    let place = |failure: &Value| {
        let sequence = failure.get("itemIdentifier").and_then(Value::as_str)?;
        messages.iter().position(|message| message.sequence == sequence)
    };
    let places: Option<Vec<usize>> = failures.iter().map(place).collect();
    match places {
        // A number that the batch does not have: the whole of it has failed.
        None => BatchOutcome::FailedFrom(0),
        Some(places) => places.into_iter().min().map_or(BatchOutcome::Done, BatchOutcome::FailedFrom),
    }
}

#[cfg(test)]
mod tests {
    use stream::Delivery;
    use transfer::consume::BatchOutcome;

    use super::outcome;

    #[test]
    fn an_answer_names_the_messages_that_failed() {
        let message = |position: u64| Delivery {
            position,
            sequence: position.to_string(),
            stored_at: 0,
            partition_key: None,
            data: bytes::Bytes::new(),
        };
        let messages = [message(7), message(8), message(9)];
        for (answer, expected) in [
            ("null", BatchOutcome::Done),
            (r#"{"batchItemFailures":[]}"#, BatchOutcome::Done),
            (r#"{"batchItemFailures":[{"itemIdentifier":"9"},{"itemIdentifier":"8"}]}"#, BatchOutcome::FailedFrom(1)),
            (r#"{"batchItemFailures":[{"itemIdentifier":"6"}]}"#, BatchOutcome::FailedFrom(0)),
        ] {
            assert_eq!(outcome(answer, &messages), expected, "{answer}");
        }
    }
}
