//! AWS CodePipeline: what is under way is stopped; a stage is closed, and opened again.
//!
//! Not played by the simulator: stopping and the states of stages; the tests have a strict fake of their own for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{PipelineExecutionStatus as Status, StageTransitionType, TransitionState};
use sakimori_model::Order;
use sakimori_respond::actions::pipeline_stop::{self, MAX_EXECUTIONS, abandons, pipeline};
use sakimori_respond::actions::pipeline_transition_disable::{self as transition, STAGE};
use sakimori_respond::former::{self, input, own_name};
use sakimori_respond::ports::{Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::problem::{code, problem};
use super::steps::{Of, Steps, done, remarked};

/// `pipeline_stop`.
pub(super) const STOP: (&str, Make) = (pipeline_stop::ID, |clients| Arc::new(Of(Stop(Arc::clone(clients)))));
/// `pipeline_transition_disable`.
pub(super) const CLOSE_STAGE: (&str, Make) = (transition::ID, |clients| Arc::new(Of(CloseStage(Arc::clone(clients)))));

struct Stop(Arc<Clients>);
struct CloseStage(Arc<Clients>);

fn gone(pipeline: &str) -> String {
    format!("there is no pipeline {pipeline} in this account and region")
}

/// The newest executions with their state; none where there is no such pipeline. What is under way is among the newest: a
/// pipeline has few of them at a time.
async fn executions(client: &Client, pipeline: &str) -> Result<Option<BTreeMap<String, Status>>, PortError> {
    let most = i32::try_from(MAX_EXECUTIONS).unwrap_or(100);
    let sent = client.list_pipeline_executions().pipeline_name(pipeline).max_results(most).send().await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) if code(&error) == Some("PipelineNotFoundException") => return Ok(None),
        Err(error) => return Err(problem("codepipeline:ListPipelineExecutions", &error)),
    };
    let all = answer.pipeline_execution_summaries.unwrap_or_default();
    Ok(Some(all.into_iter().filter_map(|one| Some((one.pipeline_execution_id?, one.status?))).collect()))
}

impl Steps for Stop {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let abandons = abandons(order).map_err(PortError::permanent)?;
        let Some(all) = executions(&Client::new(&self.0.of(order)), pipeline).await? else {
            return Ok(Look::NoEffect(gone(pipeline)));
        };
        let under_way: Vec<String> =
            all.into_iter().filter(|(_, status)| *status == Status::InProgress).map(|(id, _)| id).collect();
        if under_way.is_empty() {
            return Ok(Look::NoEffect(format!("no execution of the pipeline {pipeline} is under way")));
        }
        let how = if abandons { "giving up what its stage does now" } else { "after what its stage does now" };
        Ok(Look::Ready {
            would: under_way
                .iter()
                .map(|id| format!("stop the execution {id} of the pipeline {pipeline}, {how}"))
                .collect(),
            former: former::write(&pipeline_stop::Former { executions: under_way }),
        })
    }

    async fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let abandons = abandons(order).map_err(PortError::permanent)?;
        let former: pipeline_stop::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.of(order));
        let now = executions(&client, pipeline).await?.unwrap_or_default();
        let mut ended = 0;
        for id in &former.executions {
            // One that is stopping ends by itself; stopping it twice is an error.
            match now.get(id) {
                Some(Status::InProgress) => {}
                Some(Status::Stopping | Status::Stopped) => continue,
                _ => {
                    ended += 1;
                    continue;
                }
            }
            let stop = client.stop_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(id);
            match stop.abandon(abandons).reason(own_name("stopped", order)).send().await {
                Ok(_) => {}
                Err(error) if code(&error) == Some("DuplicatedStopRequestException") => {}
                Err(error) if code(&error) == Some("PipelineExecutionNotStoppableException") => ended += 1,
                Err(error) => return Err(problem("codepipeline:StopPipelineExecution", &error)),
            }
        }
        match ended {
            0 => done(),
            ended => remarked(format!("{ended} of {} had ended by themselves before", former.executions.len())),
        }
    }

    async fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let former: pipeline_stop::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let now = executions(&Client::new(&self.0.of(order)), pipeline).await?.unwrap_or_default();
        let goes_on = former.executions.iter().find(|id| now.get(*id) == Some(&Status::InProgress));
        Ok(goes_on.map(|id| format!("the execution {id} of {pipeline} goes on")))
    }

    /// Never asked: a descriptor without an undo says so before it is run.
    async fn undo(&self, _: &Order, _: &str) -> Result<Progress, PortError> {
        Err(PortError::permanent("an execution that was stopped is not taken up again; start the pipeline by hand"))
    }
}

impl CloseStage {
    /// The stages that something can go into, by their order; none where there is no such pipeline.
    async fn stages(client: &Client, pipeline: &str) -> Result<Option<Vec<(String, TransitionState)>>, PortError> {
        let answer = match client.get_pipeline_state().name(pipeline).send().await {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("PipelineNotFoundException") => return Ok(None),
            Err(error) => return Err(problem("codepipeline:GetPipelineState", &error)),
        };
        let all = answer.stage_states.unwrap_or_default();
        Ok(Some(all.into_iter().filter_map(|one| Some((one.stage_name?, one.inbound_transition_state?))).collect()))
    }

    async fn state(client: &Client, pipeline: &str, stage: &str) -> Result<Option<TransitionState>, PortError> {
        let all = Self::stages(client, pipeline).await?.unwrap_or_default();
        Ok(all.into_iter().find(|(name, _)| name == stage).map(|(_, state)| state))
    }
}

impl Steps for CloseStage {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let Some(all) = Self::stages(&Client::new(&self.0.of(order)), pipeline).await? else {
            return Ok(Look::NoEffect(gone(pipeline)));
        };
        let named = input(order, STAGE);
        let found = all.iter().find(|(name, _)| named.is_none_or(|stage| stage == name));
        let Some((stage, state)) = found else {
            let known: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            let reason = format!("{pipeline} has no such stage behind its first; it has {}", known.join(", "));
            return Ok(Look::NoEffect(reason));
        };
        if !state.enabled {
            let why = state.disabled_reason().unwrap_or("no reason is written");
            return Ok(Look::NoEffect(format!("the stage {stage} of {pipeline} is closed already: {why}")));
        }
        Ok(Look::Ready {
            would: vec![format!(
                "let nothing into the stage {stage} of the pipeline {pipeline}; deliveries wait before it"
            )],
            former: former::write(&transition::Former { stage: stage.clone() }),
        })
    }

    async fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let former: transition::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.of(order));
        if Self::state(&client, pipeline, &former.stage).await?.is_some_and(|state| !state.enabled) {
            return done();
        }
        let disable = client.disable_stage_transition().pipeline_name(pipeline).stage_name(&former.stage);
        let sent = disable.transition_type(StageTransitionType::Inbound).reason(transition::reason(order)).send().await;
        sent.map_err(|error| problem("codepipeline:DisableStageTransition", &error))?;
        done()
    }

    async fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let transition::Former { stage } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let state = Self::state(&Client::new(&self.0.of(order)), pipeline, &stage).await?;
        Ok(state.is_none_or(|state| state.enabled).then(|| format!("the stage {stage} of {pipeline} is open")))
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let pipeline = pipeline(order).map_err(PortError::permanent)?;
        let transition::Former { stage } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.0.of(order));
        match Self::state(&client, pipeline, &stage).await? {
            None => return remarked(format!("the stage {stage} of {pipeline} is gone meanwhile")),
            Some(state) if state.enabled => return done(),
            Some(state) if state.disabled_reason() != Some(transition::reason(order).as_str()) => {
                return remarked(format!(
                    "somebody else closed the stage {stage} of {pipeline} meanwhile; that is kept"
                ));
            }
            Some(_) => {}
        }
        let enable = client.enable_stage_transition().pipeline_name(pipeline).stage_name(&stage);
        let sent = enable.transition_type(StageTransitionType::Inbound).send().await;
        sent.map_err(|error| problem("codepipeline:EnableStageTransition", &error))?;
        done()
    }
}
