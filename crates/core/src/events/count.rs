//! Counting the events of a run that has a log already.

use runloom_store::{ReadLimit, Run};

use super::{event::Event, translate::Translator};
use crate::{Record, Result, RunSpec, Session, log::Codec};

impl Session {
    /// A translator that has seen what the earlier attempts at a run logged, and how many events that gives.
    pub(crate) async fn count_events(
        &self,
        run: &Run,
        earlier_attempts: u32,
        spec: &RunSpec,
        codec: &Codec,
    ) -> (Translator, u64) {
        if earlier_attempts == 0 {
            return (Translator::new(spec), 0);
        }
        match self.count_logged(run, spec, codec).await {
            Ok(counted) => counted,
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "cannot count the events of the run's log; they are counted as none");
                (Translator::new(spec), 0)
            }
        }
    }

    /// Calls `each` with the events of what is stored of a run's log.
    pub async fn stored_events(&self, run: &Run, mut each: impl FnMut(Event)) -> Result<()> {
        let spec = RunSpec::of(run);
        let (codec, mut translator) = (self.codec_of(run, &spec.options).await?, Translator::new(&spec));
        self.stored_records(run, &codec, |record| translator.events(record).into_iter().for_each(&mut each)).await
    }

    async fn count_logged(&self, run: &Run, spec: &RunSpec, codec: &Codec) -> Result<(Translator, u64)> {
        let (mut translator, mut events) = (Translator::new(spec), 0);
        self.stored_records(run, codec, |record| events += translator.count(record)).await?;
        Ok((translator, events))
    }

    async fn stored_records(&self, run: &Run, codec: &Codec, mut each: impl FnMut(&Record)) -> Result<()> {
        let mut after = 0;
        loop {
            let rows = self.store().read_log(self.tenant(), run.id, after + 1, ReadLimit::default()).await?;
            let Some(last) = rows.last().map(|row| row.seq) else { return Ok(()) };
            for row in &rows {
                for record in codec.decode(&row.bytes, after, u64::MAX).await? {
                    each(&record);
                    after = record.seq;
                }
            }
            after = after.max(last);
        }
    }
}
