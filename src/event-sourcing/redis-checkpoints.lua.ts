/**
 * One step of a subscription. It is a hash: `owner`, `epoch`, `until` (epoch milliseconds of the server), `position` if there is one, `by` the call
 * that moved it last. What was parked is a list of JSON.
 *
 * KEYS: the hash, the list. ARGV: what to do, then
 * `acquire` owner, milliseconds · `held` epoch, position or '' · `move` epoch, position or '', new position, name of the call, what is parked or
 * '' · `release` epoch
 *
 * Returns for `acquire` the epoch (0: another holds it) and the position or ''; else 1, or 0 when it was refused.
 */
export const checkpointsLua = `
local key, what = KEYS[1], ARGV[1]
local owner, epoch, ends, position, by = unpack(redis.call('HMGET', key, 'owner', 'epoch', 'until', 'position', 'by'))

if what == 'acquire' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  epoch = tonumber(epoch or 0)
  if owner ~= ARGV[2] then
    if tonumber(ends or 0) > now then return { 0, '' } end
    epoch = epoch + 1
  end
  redis.call('HSET', key, 'owner', ARGV[2], 'epoch', epoch, 'until', string.format('%d', now + ARGV[3]))
  return { epoch, position or '' }
end

if epoch ~= ARGV[2] then return 0 end
if what == 'release' then
  redis.call('HSET', key, 'owner', '', 'until', 0)
  return 1
end

if what == 'move' and by == ARGV[5] then return 1 end -- sent again: it is done
if (position or '') ~= ARGV[3] then return 0 end
if what == 'move' then
  redis.call('HSET', key, 'position', ARGV[4], 'by', ARGV[5])
  if ARGV[6] ~= '' then redis.call('RPUSH', KEYS[2], ARGV[6]) end
end
return 1
`
