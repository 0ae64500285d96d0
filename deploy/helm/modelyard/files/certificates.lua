-- HAProxy reads certificates when it starts and never again, and cert-manager renews them. So this looks at the files: what changed is handed to
-- the running process over its own socket, where the next connection has it and no call is cut.
local LOOK_EVERY_S = 5
local WORKER, MASTER = "/tmp/haproxy.sock", "/tmp/haproxy-master.sock"
local CERTIFICATE, AUTHORITY = "/etc/modelyard-tls/gateway.pem", "/etc/modelyard-internal/ca.pem"

local function text_of(path)
    local file = io.open(path, "rb")
    if not file then
        return ""
    end
    local text = file:read("a")
    file:close()
    -- An empty line would end what a command brings with it.
    return (text:gsub("\r", ""):gsub("\n+", "\n"):gsub("^\n", ""))
end

local function ask(socket, command)
    local connection = core.tcp()
    connection:settimeout(5)
    if not connection:connect(socket) then
        return socket .. " does not answer"
    end
    connection:send(command .. "\n")
    local answer = connection:receive("*a")
    connection:close()
    return answer or ""
end

local function follow(files, use)
    local function together()
        local texts = ""
        for _, path in ipairs(files) do
            texts = texts .. text_of(path)
        end
        return texts
    end

    local known = together()
    core.register_task(function()
        while true do
            core.sleep(LOOK_EVERY_S)
            local found = together()
            if found ~= known and use(found) then
                known = found
            end
        end
    end)
end

local function use_certificate(pair)
    local said = ask(WORKER, "set ssl cert " .. CERTIFICATE .. " <<\n" .. pair .. "\n")
    said = said .. ask(WORKER, "commit ssl cert " .. CERTIFICATE)
    if said:find("Success") then
        core.Warning("certificate read again: " .. CERTIFICATE)
        return true
    end
    -- Half of a pair, while the kubelet changes the files, or a wrong one: the one before goes on, and the next look tries again.
    ask(WORKER, "abort ssl cert " .. CERTIFICATE)
    core.Alert("the changed " .. CERTIFICATE .. " cannot be used: " .. said:gsub("\n", " "))
    return false
end

-- A server that is shown no certificate keeps its authorities for as long as its process lives (HAProxy 2.6): a new process takes over, and
-- this one ends with its last call.
local function use_authority()
    core.Warning("a new process for " .. AUTHORITY)
    ask(MASTER, "reload")
    return true
end

follow({ CERTIFICATE, CERTIFICATE .. ".key" }, use_certificate)
follow({ AUTHORITY }, use_authority)
