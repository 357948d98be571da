-- Health of deployments, shared by all workers: one call to ask for admission, one to exchange reports for the state.
-- The machine is that of shared/domain/breaker.py and shared/domain/quota_window.py; a test holds the two together.
-- Time is Redis's own. All keys share a hash tag, so they lie in one slot of a cluster.
--
-- KEYS: 1 meta (epoch, version)   2 workers (sorted by last sign of life)   3 loads by worker (JSON)
--       4 attempts in flight by deployment   5 deployments by the version that changed them   6 breakers (JSON)
--       7 events (stream)   8.. quota windows
-- ARGV: 1 "admit" or "exchange"   2 the question (JSON)

local ask = cjson.decode(ARGV[2])
local rules = ask.rules
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local now_s = math.floor(now / 1000)

local QUOTA_WINDOW_S = 60
local CLOCK_SLACK_MS = 1000
local LEASE_MS = 5000
local BUCKETS = 10
local JITTER = 0.2
local MOST_DOUBLINGS = 30
local WORKER_LOST_MS = 5000
local KEEP_S = 3600
local KEEP_EVENTS_S = 604800
local MOST_EVENTS = 1000

local max_open_ms = rules.max_open_s * 1000
local events = {}
local touched = {}

-- Breakers ------------------------------------------------------------------------------------------------------------
-- A record: s state, u end of open, o openings, x closed at, p probe, l end of its lease, c end of the cooldown,
-- w pieces of the window {begin, calls, failures, slow, first contents, sum of their times}.

local function record_of(deployment)
  local text = redis.call('HGET', KEYS[6], deployment)
  if text then return cjson.decode(text) end
  return {s = 'closed', u = 0, o = 0, x = 0, p = '', l = 0, c = 0, w = {}}
end

local function tidy(record)
  local oldest = now - rules.window_s * 1000
  local kept = {}
  for _, piece in ipairs(record.w) do
    if oldest < piece[1] and piece[1] <= now + CLOCK_SLACK_MS then kept[#kept + 1] = piece end
  end
  record.w = kept
  if record.u - now > max_open_ms then record.u = now end
  if record.l - now > LEASE_MS then record.l = now end
  if record.c - now > rules.max_cooldown_s * 1000 then record.c = now end
end

local function window(record)
  local calls, failures, slow = 0, 0, 0
  for _, piece in ipairs(record.w) do
    calls, failures, slow = calls + piece[2], failures + piece[3], slow + piece[4]
  end
  return calls, failures, slow
end

local function note(deployment, record, reason, calls, failures, slow, lasts)
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', MOST_EVENTS, '*', 'at', now, 'deployment', deployment,
    'state', record.s, 'reason', reason, 'calls', calls, 'failures', failures, 'slow', slow, 'lasts_ms', lasts)
  redis.call('EXPIRE', KEYS[7], KEEP_EVENTS_S)
  events[#events + 1] = {now, deployment, record.s, reason, calls, failures, slow, lasts}
end

local function open(deployment, record, reason, draw)
  if record.x > 0 and now - record.x > max_open_ms then record.o = 0 end
  record.o = math.min(record.o + 1, MOST_DOUBLINGS)
  local grown = math.min(rules.open_s * 1000 * 2 ^ (record.o - 1), max_open_ms)
  local lasts = math.floor(grown * (1 - JITTER * draw))
  record.s, record.u, record.p, record.l = 'open', now + lasts, '', 0
  local calls, failures, slow = window(record)
  note(deployment, record, reason, calls, failures, slow, lasts)
end

local function end_probe(deployment, record, probe, draw)
  if record.s ~= 'half_open' or record.p ~= probe[1] then return end
  local verdict = probe[2]
  if verdict == 'alive' then
    record.l = now + LEASE_MS
  elseif verdict == 'succeeded' then
    record.s, record.u, record.x, record.p, record.l, record.w = 'closed', 0, now, '', 0, {}
    note(deployment, record, 'probe_succeeded', 0, 0, 0, 0)
  elseif verdict == 'failed' then
    open(deployment, record, 'probe_failed', draw)
  else
    record.s, record.u, record.p, record.l = 'open', now, '', 0
    local calls, failures, slow = window(record)
    note(deployment, record, 'probe_undecided', calls, failures, slow, 0)
  end
end

local function count(deployment, record, tally, draw)
  if record.s ~= 'closed' or tally[1] == 0 then return end
  local length = math.floor(rules.window_s * 1000 / BUCKETS)
  local begin = now - now % length
  local piece = nil
  for _, one in ipairs(record.w) do
    if one[1] == begin then piece = one end
  end
  if not piece then
    piece = {begin, 0, 0, 0, 0, 0}
    record.w[#record.w + 1] = piece
  end
  for place = 1, 5 do piece[place + 1] = piece[place + 1] + tally[place] end
  local calls, failures, slow = window(record)
  if calls < rules.minimum_calls then return end
  if failures / calls >= rules.failure_rate then
    open(deployment, record, 'failure_rate', draw)
  elseif slow / calls >= rules.slow_rate then
    open(deployment, record, 'slow_rate', draw)
  end
end

local function keep(deployment, record)
  redis.call('HSET', KEYS[6], deployment, cjson.encode(record))
  touched[deployment] = true
end

-- Every change gets a version, so that each worker reads only what it has not seen.
local function publish()
  if next(touched) == nil then return end
  local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  for deployment in pairs(touched) do redis.call('ZADD', KEYS[5], version, deployment) end
end

-- Quotas --------------------------------------------------------------------------------------------------------------
-- A hash: r<second> and t<second> requests and tokens of a second, R and T their sums, h the first second that counts,
-- n the newest.

local function sum_of(key, field) return tonumber(redis.call('HGET', key, field) or 0) end

local function tidy_quota(key)
  local first = now_s - QUOTA_WINDOW_S
  local oldest = tonumber(redis.call('HGET', key, 'h') or first)
  if sum_of(key, 'n') > math.floor((now + CLOCK_SLACK_MS) / 1000) or oldest < first - 2 * QUOTA_WINDOW_S then
    redis.call('DEL', key)
    oldest = first
  end
  for second = oldest, first - 1 do
    local used = redis.call('HMGET', key, 'r' .. second, 't' .. second)
    if used[1] then
      -- 0 - x, because -0 is no integer to Redis.
      redis.call('HINCRBY', key, 'R', 0 - tonumber(used[1]))
      redis.call('HINCRBY', key, 'T', 0 - tonumber(used[2]))
      redis.call('HDEL', key, 'r' .. second, 't' .. second)
    end
  end
  return first
end

local function charge(key, first, second, requests, tokens)
  redis.call('HINCRBY', key, 'r' .. second, requests)
  redis.call('HINCRBY', key, 't' .. second, tokens)
  redis.call('HINCRBY', key, 'R', requests)
  redis.call('HINCRBY', key, 'T', tokens)
  redis.call('HSET', key, 'h', first, 'n', math.max(second, sum_of(key, 'n')))
  redis.call('EXPIRE', key, 2 * QUOTA_WINDOW_S)
end

-- Milliseconds until `wanted` more fit; a whole window for what never will.
local function wait_for(key, first, prefix, sum, limit, wanted)
  local over = sum_of(key, sum) + wanted - limit
  if over <= 0 then return 0 end
  for second = first, now_s + 1 do
    over = over - sum_of(key, prefix .. second)
    if over <= 0 then return (second + QUOTA_WINDOW_S + 1) * 1000 - now end
  end
  return QUOTA_WINDOW_S * 1000
end

-- The two questions ---------------------------------------------------------------------------------------------------

local function admit()
  local record = record_of(ask.deployment)
  tidy(record)
  if record.c > now then return {'cooldown', record.c - now, now, 0} end
  if record.s == 'open' and record.u > now then return {'breaker_open', record.u - now, now, 0} end
  if record.s == 'half_open' and record.l > now then return {'half_open_busy', record.l - now, now, 0} end
  local key = KEYS[8]
  if key then
    local first = tidy_quota(key)
    if ask.requests then
      local wait = wait_for(key, first, 'r', 'R', ask.requests, 1)
      if wait > 0 then return {'requests_quota', wait, now, 0} end
    end
    if ask.tokens_limit then
      local wait = wait_for(key, first, 't', 'T', ask.tokens_limit, ask.tokens)
      if wait > 0 then return {'tokens_quota', wait, now, 0} end
    end
    charge(key, first, now_s, 1, ask.tokens)
  end
  if record.s == 'closed' then return {'', 0, now, 0} end
  local was = record.s
  record.s, record.p, record.l = 'half_open', ask.token, now + LEASE_MS
  if was == 'open' then
    local calls, failures, slow = window(record)
    note(ask.deployment, record, 'probe_started', calls, failures, slow, 0)
  end
  keep(ask.deployment, record)
  publish()
  return {'', 0, now, 1, events}
end

local function set_loads(worker, loads)
  local text = redis.call('HGET', KEYS[3], worker)
  local before = text and cjson.decode(text) or {}
  for deployment, attempts in pairs(loads) do
    local added = attempts - (before[deployment] or 0)
    if added ~= 0 then
      redis.call('HINCRBY', KEYS[4], deployment, added)
      touched[deployment] = true
    end
  end
  for deployment, attempts in pairs(before) do
    if not loads[deployment] and attempts ~= 0 then
      redis.call('HINCRBY', KEYS[4], deployment, 0 - attempts)
      touched[deployment] = true
    end
  end
  if next(loads) == nil then
    redis.call('HDEL', KEYS[3], worker)
  else
    redis.call('HSET', KEYS[3], worker, cjson.encode(loads))
  end
end

local function report(one)
  local record = record_of(one.d)
  tidy(record)
  if one.cool > 0 then record.c = math.max(record.c, now + one.cool) end
  if one.reopen and record.s == 'closed' then
    local lasts = math.min(one.reopen[1], max_open_ms)
    record.s, record.u, record.o = 'open', now + lasts, one.reopen[2]
    local calls, failures, slow = window(record)
    note(one.d, record, 'restored', calls, failures, slow, lasts)
  end
  if one.probe then end_probe(one.d, record, one.probe, one.draw) end
  count(one.d, record, one.tally, one.draw)
  keep(one.d, record)
  local key = one.quota and KEYS[7 + one.quota]
  if key then
    local first = tidy_quota(key)
    for _, part in ipairs(one.charges) do
      local second = now_s - part[1]
      if second >= first then charge(key, first, second, part[2], part[3]) end
    end
  end
end

local function exchange()
  redis.call('HSETNX', KEYS[1], 'epoch', ask.new_epoch)
  local epoch = redis.call('HGET', KEYS[1], 'epoch')
  local since = ask.since
  if epoch ~= ask.epoch then since = 0 end
  redis.call('ZADD', KEYS[2], now, ask.worker)
  -- Workers whose last sign of life lies in a clock's future are lost as well, unless they speak again.
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - WORKER_LOST_MS)) do
    set_loads(lost, {})
    redis.call('ZREM', KEYS[2], lost)
  end
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now + WORKER_LOST_MS, '+inf')) do
    set_loads(lost, {})
    redis.call('ZREM', KEYS[2], lost)
  end
  set_loads(ask.worker, ask.loads)
  -- Who knows another memory will tell everything again: what it tells now would count twice.
  if ask.epoch == '' or epoch == ask.epoch then
    for _, one in ipairs(ask.reports) do report(one) end
  end
  publish()
  if ask.leaves then redis.call('ZREM', KEYS[2], ask.worker) end
  for place = 1, 6 do redis.call('EXPIRE', KEYS[place], KEEP_S) end
  local changed = {}
  for _, deployment in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. since, '+inf')) do
    changed[#changed + 1] = {
      deployment, redis.call('HGET', KEYS[6], deployment) or '', tonumber(redis.call('HGET', KEYS[4], deployment) or 0)
    }
  end
  local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
  return {now, epoch, version, redis.call('ZCARD', KEYS[2]), changed, events}
end

if ARGV[1] == 'admit' then return admit() end
return exchange()
