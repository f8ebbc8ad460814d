//! What others write within the writer's transactions.

use rusqlite::Transaction;
use tokio::sync::oneshot;

use super::Refusal;

/// A piece of work.
pub(super) trait Work: Send {
    /// Does it. An error of the whole connection is given; one of its own undoes its own alone.
    fn run(&mut self, within: &Transaction<'_>) -> rusqlite::Result<()>;

    /// The transaction is on disk, or it is not.
    fn answer(self: Box<Self>, stored: bool);
}

/// Work with a result, and who waits for it.
pub(super) struct Task<F, T> {
    work: Option<F>,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, Refusal>>,
}

impl<F, T> Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    T: Send + 'static,
{
    pub(super) fn boxed(work: F) -> (Box<dyn Work>, oneshot::Receiver<Result<T, Refusal>>) {
        let (answer, answered) = oneshot::channel();
        (Box::new(Self { work: Some(work), result: None, answer }), answered)
    }
}

impl<F, T> Work for Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, within: &Transaction<'_>) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        within.execute_batch("SAVEPOINT work")?;
        match work(within) {
            Ok(result) => {
                self.result = Some(result);
                within.execute_batch("RELEASE work")
            }
            Err(error) => {
                tracing::error!(%error, "the store does not take what should be written");
                within.execute_batch("ROLLBACK TO work; RELEASE work")
            }
        }
    }

    fn answer(self: Box<Self>, stored: bool) {
        let result = self.result.filter(|_| stored).ok_or(Refusal::Storage);
        // Who asked may be gone.
        let _ = self.answer.send(result);
    }
}
