// Both handlers: nothing, or the moment at which it began, in ns of the machine's monotonic clock.
module.exports = async (job) => (job.name === 'moment' ? process.hrtime.bigint().toString() : null);
