-- Unique records for wrk. Arguments: the file of requests (parts end with 1, requests with 2), and the digits with which
-- every record number of this run begins. One thread only: the numbers are counted in it.

local requests, count, prefix, number = {}, 0, "", 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  for first, second, third in text:gmatch("([^\1\2]*)\1([^\1\2]*)\1([^\1\2]*)\2") do
    count = count + 1
    requests[count] = { first, second, third }
  end
  prefix = args[2]
end

function request()
  number = number + 1
  local it = requests[number % count + 1]
  local id = prefix .. string.format("%07x", number)
  return it[1] .. id .. it[2] .. id .. it[3]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"failed":%d,"p50_us":%.1f,"p99_us":%.1f,"p999_us":%.1f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)
  ))
end
